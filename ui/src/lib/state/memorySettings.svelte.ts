import type { Ipc, KeptMemory } from "../ipc";
import { Attempts } from "./attempts.svelte";

/** What is kept on the disk of what models have read, and how much it may be. */
export class MemorySettings extends Attempts {
  /** Null until it was read. */
  kept = $state.raw<KeptMemory | null>(null);
  /** The bytes that were freed last; null where none were asked for. */
  freedBytes = $state<number | null>(null);

  #ipc: Ipc;

  constructor(ipc: Ipc) {
    super();
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

  async #attempt(work: () => Promise<void>): Promise<void> {
    this.freedBytes = null;
    await this.attempt(work);
  }
}
