import { type AppError, toAppError } from "../ipc/errors";
import type { Ipc, RepositoryHit, RepositoryOffer } from "../ipc";

/** What one looks for on the hub: a repository by its id or link, or repositories by words. */
export class RepositoryFinder {
  text = $state("");
  isAsking = $state(false);
  /** Null before a search. */
  hits = $state.raw<RepositoryHit[] | null>(null);
  offer = $state.raw<RepositoryOffer | null>(null);
  failure = $state.raw<AppError | null>(null);
  /** What was last asked for, for the sentence about it. */
  asked = $state("");

  #ipc: Ipc;
  #asking = 0;

  constructor(ipc: Ipc) {
    this.#ipc = ipc;
  }

  /** Looks up `owner/name` or a link, and searches for everything else. */
  async find(): Promise<void> {
    const text = this.text.trim();
    if (text === "") return;
    if (text.includes("/")) await this.lookUp(text);
    else await this.#ask(text, async () => ({ hits: await this.#ipc.searchHub(text) }));
  }

  /** Shows what models a repository has. What was found before stays for the way back. */
  async lookUp(repository: string): Promise<void> {
    await this.#ask(repository, async () => ({
      hits: this.hits,
      offer: await this.#ipc.lookUpRepository(repository),
    }));
  }

  /** Back from a repository to what was found. */
  back(): void {
    this.offer = null;
  }

  clear(): void {
    this.#asking += 1;
    this.text = "";
    this.#show({});
  }

  async #ask(
    asked: string,
    answer: () => Promise<{ hits?: RepositoryHit[] | null; offer?: RepositoryOffer }>,
  ): Promise<void> {
    this.#asking += 1;
    const asking = this.#asking;
    this.isAsking = true;
    this.asked = asked;
    this.failure = null;
    try {
      const found = await answer();
      if (asking === this.#asking) this.#show(found);
    } catch (reason) {
      if (asking === this.#asking) this.#show({ failure: toAppError(reason), hits: this.hits });
    }
  }

  #show(found: {
    hits?: RepositoryHit[] | null;
    offer?: RepositoryOffer;
    failure?: AppError;
  }): void {
    this.isAsking = false;
    this.hits = found.hits ?? null;
    this.offer = found.offer ?? null;
    this.failure = found.failure ?? null;
  }
}
