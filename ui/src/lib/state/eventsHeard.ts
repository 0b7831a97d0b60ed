/**
 * Counts the events about one fact. Events come in the order of the changes, so the last one is the truth; an
 * answer was read at some moment before it came, and an event may have overtaken it.
 */
export class EventsHeard {
  #count = 0;

  note(): void {
    this.#count += 1;
  }

  /** To be called before a question. What it returns says of the answer whether no event came meanwhile. */
  ask(): () => boolean {
    const before = this.#count;
    return () => this.#count === before;
  }
}
