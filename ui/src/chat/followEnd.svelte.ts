export interface ScrollPosition {
  scrollTop: number;
  scrollHeight: number;
  clientHeight: number;
}

/** Closer to the end than this many pixels counts as being there. */
const NEAR_PIXELS = 32;

/**
 * Decides whether a list stays at its end while it grows. It does so only while the person is
 * there; whoever scrolls up is left alone until they come back.
 */
export class FollowEnd {
  isFollowing = $state(true);
  #lastTop = 0;

  /** The list was scrolled, by the person or by its growth. */
  scrolled(position: ScrollPosition): void {
    const distance = position.scrollHeight - position.clientHeight - position.scrollTop;
    const wentUp = position.scrollTop < this.#lastTop;
    this.#lastTop = position.scrollTop;
    if (distance <= 1) this.isFollowing = true;
    else if (wentUp) this.isFollowing = false;
    else if (distance <= NEAR_PIXELS) this.isFollowing = true;
  }

  /** The person turned the wheel or pressed a key towards the top: let go before anything moves. */
  letGo(position: ScrollPosition): void {
    if (position.scrollHeight > position.clientHeight) this.isFollowing = false;
  }

  /** The content or the window changed its height: where the list has to scroll to, or null. */
  resized(position: ScrollPosition): number | null {
    if (!this.isFollowing) return null;
    const end = Math.max(0, position.scrollHeight - position.clientHeight);
    this.#lastTop = end;
    return end;
  }

  /** The person asks for the end, or sent a message. */
  goToEnd(): void {
    this.isFollowing = true;
    this.#lastTop = 0;
  }
}
