import type { AccessToken, Ipc, TokenPlace } from "../ipc";
import { Attempts } from "./attempts.svelte";

/** The hub's access token, as far as the window may know it: never its text. */
export class AccessTokenSettings extends Attempts {
  /** Null until it was read, which may wait for the keychain. */
  state = $state.raw<AccessToken | null>(null);

  #ipc: Ipc;

  constructor(ipc: Ipc) {
    super();
    this.#ipc = ipc;
  }

  async read(): Promise<void> {
    await this.#attempt(() => this.#ipc.readAccessToken());
  }

  /** Keeps what was entered. Whether that was possible is returned. */
  save(text: string, place: TokenPlace): Promise<boolean> {
    return this.#attempt(() => this.#ipc.setAccessToken(text, place));
  }

  async remove(): Promise<void> {
    await this.#attempt(() => this.#ipc.removeAccessToken());
  }

  #attempt(work: () => Promise<AccessToken>): Promise<boolean> {
    if (this.isBusy) return Promise.resolve(false);
    return this.attempt(async () => {
      this.state = await work();
    });
  }
}
