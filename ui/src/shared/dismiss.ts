import type { Attachment } from "svelte/attachments";

/**
 * Calls `close` at a press outside of the element, or when the focus leaves it for another one. What
 * happens in `anchor`, the button that opens and closes it, counts as inside.
 */
export function dismissOutside(close: () => void, anchor?: HTMLElement): Attachment<HTMLElement> {
  return (element) => {
    const isOutside = (target: EventTarget | null): boolean =>
      target instanceof Node && !element.contains(target) && !anchor?.contains(target);
    const onPointerDown = (event: PointerEvent): void => {
      if (isOutside(event.target)) close();
    };
    const onFocusOut = (event: FocusEvent): void => {
      if (isOutside(event.relatedTarget)) close();
    };
    document.addEventListener("pointerdown", onPointerDown, true);
    element.addEventListener("focusout", onFocusOut);
    return () => {
      document.removeEventListener("pointerdown", onPointerDown, true);
      element.removeEventListener("focusout", onFocusOut);
    };
  };
}
