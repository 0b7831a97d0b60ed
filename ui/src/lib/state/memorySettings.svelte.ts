import { type AppError, toAppError } from "../ipc/errors";
import type { Ipc, KeptMemory } from "../ipc";

/** What is kept on the disk of what models have read, and how much it may be. */
export class MemorySettings {
  /** Null until it was read. */
  kept = $state.raw<KeptMemory | null>(null);
  /** The bytes that were freed last; null where none were asked for. */
  freedBytes = $state<number | null>(null);
  failure = $state.raw<AppError | null>(null);
  isBusy = $state(false);

  #ipc: Ipc;

  constructor(ipc: Ipc) {
    this.#ipc = ipc;
  }

  async read(): Promise<void> {
    await this.#attempt(async () => {
      this.kept = await this.#ipc.readKeptMemory();
    });
  }

  /** Bounds what is kept, in bytes; null takes the default. */
  async setBudget(bytes: number | null): Promise<void> {
    await this.#attempt(async () => {
      this.kept = await this.#ipc.setMemoryBudget(bytes);
    });
  }

  /** Destroys all that is kept. */
  async free(): Promise<void> {
    await this.#attempt(async () => {
      const { bytes } = await this.#ipc.freeKeptMemory();
      this.kept = await this.#ipc.readKeptMemory();
      this.freedBytes = bytes;
    });
  }

  async #attempt(action: () => Promise<void>): Promise<void> {
    this.isBusy = true;
    this.freedBytes = null;
    this.failure = null;
    try {
      await action();
    } catch (reason) {
      this.failure = toAppError(reason);
    }
    this.isBusy = false;
  }
}
