import { type AppError, toAppError } from "../ipc/errors";
import type { AccessToken, Ipc, TokenPlace } from "../ipc";

/** The hub's access token, as far as the window may know it: never its text. */
export class AccessTokenSettings {
  /** Null until it was read, which may wait for the keychain. */
  state = $state.raw<AccessToken | null>(null);
  failure = $state.raw<AppError | null>(null);
  isBusy = $state(false);

  #ipc: Ipc;

  constructor(ipc: Ipc) {
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

  async #attempt(work: () => Promise<AccessToken>): Promise<boolean> {
    if (this.isBusy) return false;
    this.isBusy = true;
    this.failure = null;
    try {
      this.state = await work();
    } catch (reason) {
      this.failure = toAppError(reason);
    }
    this.isBusy = false;
    return this.failure === null;
  }
}
