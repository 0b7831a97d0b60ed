// How the backend in memory waits.

/** Tests pass one that does not wait. */
export type Pause = (milliseconds: number) => Promise<void>;

export const realPause: Pause = (milliseconds) =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));
