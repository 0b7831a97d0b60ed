import { type AppError, toAppError } from "../ipc/errors";
import type { Ipc, SearchHit } from "../ipc";

const MOST_HITS = 100;

/** The search in all conversations. */
export class Search {
  words = $state("");
  /** Null until the first answer to the words. */
  hits = $state.raw<SearchHit[] | null>(null);
  failure = $state.raw<AppError | null>(null);

  #ipc: Ipc;
  #asked = 0;
  #isFollowing = false;
  /** Whether words were typed that nothing was asked for yet. */
  #isBehind = false;

  constructor(ipc: Ipc) {
    this.#ipc = ipc;
  }

  /** Whether results stand in the place of the list. */
  get isActive(): boolean {
    return this.words.trim() !== "";
  }

  write(words: string): void {
    this.words = words;
    this.#asked += 1;
    this.#isBehind = this.isActive;
    if (this.isActive) {
      void this.#follow();
    } else {
      this.hits = null;
      this.failure = null;
    }
  }

  /** Searches for the words as they are now. An answer that came too late is dropped. */
  async run(): Promise<void> {
    this.#isBehind = false;
    const asked = (this.#asked += 1);
    try {
      const hits = await this.#ipc.searchConversations(this.words, MOST_HITS);
      if (asked !== this.#asked) return;
      this.hits = hits;
      this.failure = null;
    } catch (reason) {
      if (asked === this.#asked) this.failure = toAppError(reason);
    }
  }

  /** Searches while one types, one search at a time: of what was typed during one only the last is searched for. */
  async #follow(): Promise<void> {
    if (this.#isFollowing) return;
    this.#isFollowing = true;
    while (this.#isBehind) await this.run();
    this.#isFollowing = false;
  }

  leave(): void {
    this.write("");
  }
}
