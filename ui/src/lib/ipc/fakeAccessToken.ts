// The access token of the in-memory backend: of what is entered it keeps the last four characters.

import { AppError } from "./errors";
import type { AccessToken, TokenPlace } from "./index";

export class FakeAccessToken {
  state: AccessToken = { type: "unset" };
  /** Whether the system has a keychain. */
  hasKeychain = true;

  set(text: string, place: TokenPlace): AccessToken {
    const token = text.trim();
    if (token.includes(" ")) {
      throw new AppError({
        code: "tokenRefused",
        message:
          "what was entered is no access token: it has spaces or characters that no token has",
      });
    }
    if (place === "keychain" && !this.hasKeychain) {
      throw new AppError({
        code: "keychainUnusable",
        message:
          "cannot save the access token in this system's keychain: no Secret Service is running",
      });
    }
    this.state = { type: "set", lastFour: token.slice(-4), keeping: place };
    return this.state;
  }

  remove(): AccessToken {
    this.state = { type: "unset" };
    return this.state;
  }
}
