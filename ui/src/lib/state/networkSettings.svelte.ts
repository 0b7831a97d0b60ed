import { type AppError, toAppError } from "../ipc/errors";
import type { Ipc, NetworkChoice, NetworkState } from "../ipc";

/** How requests leave, and which ones did. */
export class NetworkSettings {
  /** Null until it was read. */
  state = $state.raw<NetworkState | null>(null);
  failure = $state.raw<AppError | null>(null);
  isBusy = $state(false);

  #ipc: Ipc;

  constructor(ipc: Ipc) {
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

  async #attempt(work: () => Promise<void>): Promise<boolean> {
    if (this.isBusy) return false;
    this.isBusy = true;
    this.failure = null;
    try {
      await work();
    } catch (reason) {
      this.failure = toAppError(reason);
    }
    this.isBusy = false;
    return this.failure === null;
  }
}
