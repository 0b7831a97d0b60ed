/** So many entries fill most windows. */
const FIRST_ENTRIES = 10;
/** So many more are laid out within a few frames. */
const ENTRIES_AT_A_TIME = 8;
/** What is pressed meanwhile comes first. */
const PAUSE_MILLISECONDS = 50;

/** Calls back a moment after what is laid out now was drawn. Returns what calls it off. */
function afterPauseOnceDrawn(callback: () => void): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  // A frame begins when the one before it is on the screen. Drawing one may take longer than the pause.
  let frame = requestAnimationFrame(() => {
    frame = requestAnimationFrame(() => (timer = setTimeout(callback, PAUSE_MILLISECONDS)));
  });
  return () => {
    cancelAnimationFrame(frame);
    clearTimeout(timer);
  };
}

/**
 * How much of a list that opens at its end is laid out: the end at once, so that it is seen without
 * delay, and what stands above it bit by bit after the next frames, so that the window stays awake.
 * Once all of it was there, whatever comes is laid out at once. Made while a component is.
 */
export class ShownFromEnd {
  #count: () => number;
  #isWholeWanted: () => boolean;
  #reached = $state(FIRST_ENTRIES);

  /** How many entries at the beginning of the list are not laid out yet. */
  left = $derived.by(() =>
    this.#isWholeWanted() ? 0 : Math.max(0, this.#count() - this.#reached),
  );

  /** `count` is the length of the list; `isWholeWanted` says whether a place in it is to be shown now. */
  constructor(count: () => number, isWholeWanted: () => boolean) {
    this.#count = count;
    this.#isWholeWanted = isWholeWanted;
    $effect(() => {
      if (this.left > 0) return afterPauseOnceDrawn(() => (this.#reached += ENTRIES_AT_A_TIME));
      this.#reached = Infinity;
      return undefined;
    });
  }
}
