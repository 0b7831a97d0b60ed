/** Entries nearer to what is seen than this are laid out as usual. */
const NEAR_PIXELS = 1500;

/**
 * Marks the entries that are far from what is seen by `data-far`, so that the style can leave them out of
 * the layout. Each keeps the height that it had, so that nothing moves; they stay in the document for
 * screen readers and for the search of the web view.
 */
export function watchFarEntries(scroller: HTMLElement): IntersectionObserver {
  return new IntersectionObserver(
    (changes) => {
      for (const { target, isIntersecting, boundingClientRect } of changes) {
        if (!(target instanceof HTMLElement)) continue;
        if (isIntersecting) {
          delete target.dataset["far"];
          continue;
        }
        const padding = parseFloat(getComputedStyle(target).paddingTop) || 0;
        const height = Math.max(0, boundingClientRect.height - padding);
        target.style.setProperty("contain-intrinsic-height", `${height}px`);
        target.dataset["far"] = "";
      }
    },
    { root: scroller, rootMargin: `${NEAR_PIXELS}px 0px` },
  );
}
