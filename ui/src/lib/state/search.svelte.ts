import { type AppError, toAppError } from "../ipc/errors";
import type { Ipc, SearchHit } from "../ipc";

const SEARCH_AFTER_MILLISECONDS = 120;
const MOST_HITS = 100;

/** The search in all conversations. */
export class Search {
  words = $state("");
  /** Null until the first answer to the words. */
  hits = $state.raw<SearchHit[] | null>(null);
  failure = $state.raw<AppError | null>(null);

  #ipc: Ipc;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #asked = 0;

  constructor(ipc: Ipc) {
    this.#ipc = ipc;
  }

  /** Whether results stand in the place of the list. */
  get isActive(): boolean {
    return this.words.trim() !== "";
  }

  write(words: string): void {
    this.words = words;
    clearTimeout(this.#timer);
    this.#asked += 1;
    if (this.isActive) {
      this.#timer = setTimeout(() => void this.run(), SEARCH_AFTER_MILLISECONDS);
    } else {
      this.hits = null;
      this.failure = null;
    }
  }

  /** Searches for the words as they are now. An answer that came too late is dropped. */
  async run(): Promise<void> {
    clearTimeout(this.#timer);
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

  leave(): void {
    this.write("");
  }
}
