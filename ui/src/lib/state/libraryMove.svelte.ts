import type { Ipc, MoveProgress } from "../ipc";
import { Attempts } from "./attempts.svelte";

/** The folder of the models: moving them to another, and finding one that is away. */
export class LibraryMove extends Attempts {
  /** How far a move is; null where none is under way. */
  progress = $state.raw<MoveProgress | null>(null);
  /** Where the models were moved to last. */
  movedTo = $state<string | null>(null);

  #ipc: Ipc;
  #changed: () => Promise<void>;

  /** `changed` reads what the library shows. */
  constructor(ipc: Ipc, changed: () => Promise<void>) {
    super();
    this.#ipc = ipc;
    this.#changed = changed;
  }

  async move(): Promise<void> {
    await this.#attempt(async () => {
      try {
        this.movedTo = await this.#ipc.moveLibrary((progress) => (this.progress = progress));
      } finally {
        this.progress = null;
      }
    });
  }

  cancel(): Promise<void> {
    // Its end is that of the move.
    return this.#ipc.cancelLibraryMove().catch(() => undefined);
  }

  lookAgain(): Promise<void> {
    return this.#attempt(() => this.#ipc.lookForLibrary());
  }

  useDefault(): Promise<void> {
    return this.#attempt(() => this.#ipc.useDefaultLibrary());
  }

  async #attempt(work: () => Promise<void>): Promise<void> {
    if (this.isBusy) return;
    this.movedTo = null;
    await this.attempt(async () => {
      await work();
      await this.#changed();
    });
  }
}
