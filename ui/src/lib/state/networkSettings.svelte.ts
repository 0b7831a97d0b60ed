import type { Ipc, NetworkChoice, NetworkState } from "../ipc";
import { Attempts } from "./attempts.svelte";

/** How requests leave, and which ones did. */
export class NetworkSettings extends Attempts {
  /** Null until it was read. */
  state = $state.raw<NetworkState | null>(null);

  #ipc: Ipc;

  constructor(ipc: Ipc) {
    super();
    this.#ipc = ipc;
  }

  async read(): Promise<void> {
    await this.#attempt(async () => {
      this.state = await this.#ipc.readNetwork();
    });
  }

  /** Changes what is named and keeps the rest. Whether that was possible is returned. */
  async change(changes: Partial<NetworkChoice>): Promise<boolean> {
    if (this.state === null) return false;
    const choice = { ...this.state.choice, ...changes };
    return this.#attempt(async () => {
      await this.#ipc.setNetwork(choice);
      this.state = await this.#ipc.readNetwork();
    });
  }

  #attempt(work: () => Promise<void>): Promise<boolean> {
    return this.isBusy ? Promise.resolve(false) : this.attempt(work);
  }
}
