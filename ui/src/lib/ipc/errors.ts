// What each error of the backend means to a person: one table, one row per code.

import type { ErrorCode, IpcError } from "./index";

/** What a person can do about an error by one press of a button; `none` where no button helps. */
export type ErrorAction = "retry" | "chooseModel" | "shorten" | "enterToken" | "none";

export interface ErrorText {
  severity: "warning" | "error";
  /** What happened, in one sentence. */
  what: string;
  /** What was not lost. */
  kept: string;
  /** What to do next. */
  advice: string;
  action: ErrorAction;
}

/** Every code has a row, which the type enforces: a new code does not compile without its words. */
export const errorTexts: Record<ErrorCode, ErrorText> = {
  runtimeMissing: {
    severity: "error",
    what: "The ONNX Runtime library cannot be used, so no model can run.",
    kept: "Your conversation is safe.",
    advice: "Install Hearth again or name another library in HEARTH_ONNXRUNTIME, then retry.",
    action: "retry",
  },
  modelMissing: {
    severity: "error",
    what: "A file of this model is missing.",
    kept: "Your conversation is safe.",
    advice: "Repair it under Models, put the file back into its folder, or choose another model.",
    action: "chooseModel",
  },
  modelBroken: {
    severity: "error",
    what: "This model cannot be loaded because one of its files is damaged or not supported.",
    kept: "Your conversation is safe.",
    advice: "Repair it under Models, or choose another one.",
    action: "chooseModel",
  },
  outOfMemory: {
    severity: "error",
    what: "There is not enough memory for this model.",
    kept: "Your conversation is safe.",
    advice: "Close other applications and retry, or choose a smaller model.",
    action: "retry",
  },
  promptTooLong: {
    severity: "warning",
    what: "The message is too long for what the model can remember at once.",
    kept: "Your text is still in the message field.",
    advice: "Shorten it, unpin messages, or reset the memory of this conversation.",
    action: "shorten",
  },
  diskFull: {
    severity: "error",
    what: "The disk is full, so nothing more can be saved.",
    kept: "All that was saved before is safe.",
    advice: "Free some space on the disk, then retry.",
    action: "retry",
  },
  dataFolderUnwritable: {
    severity: "error",
    what: "Hearth cannot write to its data folder.",
    kept: "Nothing in the folder was changed.",
    advice: "Allow writing to the folder or name another one in HEARTH_DATA_DIR, then retry.",
    action: "retry",
  },
  busy: {
    severity: "warning",
    what: "The model is still working on something else.",
    kept: "Your text is still here.",
    advice: "Wait until the reply has ended or stop it, then retry.",
    action: "retry",
  },
  crashed: {
    severity: "error",
    what: "The model stopped unexpectedly and was unloaded.",
    kept: "The conversation and the text so far are safe.",
    advice: "Retry loads the model again.",
    action: "retry",
  },
  offline: {
    severity: "warning",
    what: "The network is switched off, so nothing was asked for.",
    kept: "What was fetched before is kept.",
    advice: "Switch it on in Models under Network, then retry.",
    action: "retry",
  },
  hubUnreachable: {
    severity: "warning",
    what: "The hub does not answer.",
    kept: "What was fetched before is kept.",
    advice: "Check the connection, and the mirror and proxy in Models under Network, then retry.",
    action: "retry",
  },
  connectionUnsafe: {
    severity: "error",
    what: "The connection is not safe, so it was not used.",
    kept: "Nothing was sent or changed.",
    advice: "Check the addresses in Models under Network and the clock of this computer.",
    action: "retry",
  },
  repositoryGated: {
    severity: "warning",
    what: "The owner of this repository asks for a login and accepted conditions.",
    kept: "Nothing was installed.",
    advice:
      "Accept them on the repository’s page, enter an access token in Models under Network, then retry.",
    action: "enterToken",
  },
  tokenRefused: {
    severity: "warning",
    what: "The access token is not accepted.",
    kept: "Nothing was installed.",
    advice: "Enter another one in Models under Network; it is made in your settings at the hub.",
    action: "enterToken",
  },
  keychainUnusable: {
    severity: "warning",
    what: "This system’s keychain cannot be used.",
    kept: "Nothing was changed.",
    advice: "Start or unlock one, such as GNOME Keyring or KWallet, then retry.",
    action: "retry",
  },
  listUnusable: {
    severity: "warning",
    what: "This list of models cannot be used.",
    kept: "The models are those of before.",
    advice: "Check its address in Models under Network, then retry.",
    action: "retry",
  },
  repositoryMissing: {
    severity: "warning",
    what: "The hub has no such repository or file, or it is private.",
    kept: "Nothing was changed.",
    advice: "Check the name, or choose another model.",
    action: "none",
  },
  downloadWrong: {
    severity: "error",
    what: "What came is not what was asked for.",
    kept: "Nothing of it was installed.",
    advice: "Retry. If it happens again, the mirror or the repository is at fault.",
    action: "retry",
  },
  modelUnsupported: {
    severity: "warning",
    what: "This cannot be used as a model here.",
    kept: "Nothing was installed.",
    advice: "Choose another variant or another model.",
    action: "none",
  },
  settingRefused: {
    severity: "warning",
    what: "A setting is outside of what it may be.",
    kept: "The settings are as they were.",
    advice: "Change the value that the details name.",
    action: "none",
  },
  libraryFolder: {
    severity: "error",
    what: "The folder of the models cannot be read or changed.",
    kept: "What was fetched before is kept.",
    advice: "See that no other program works in it and that it can be written, then retry.",
    action: "retry",
  },
  internal: {
    severity: "error",
    what: "Something went wrong inside Hearth.",
    kept: "Your conversation is safe.",
    advice: "Retry. If it happens again, the details below help to report it.",
    action: "retry",
  },
};

/** An error of the backend, with its code and its exact technical sentence as message. */
export class AppError extends Error {
  readonly code: ErrorCode;

  constructor(error: IpcError, options?: ErrorOptions) {
    super(error.message, options);
    this.name = "AppError";
    this.code = error.code;
  }
}

function isIpcError(reason: unknown): reason is IpcError {
  return (
    typeof reason === "object" &&
    reason !== null &&
    "code" in reason &&
    "message" in reason &&
    typeof reason.code === "string" &&
    typeof reason.message === "string" &&
    Object.hasOwn(errorTexts, reason.code)
  );
}

/** Any rejection as an AppError; what the backend did not send itself counts as internal. */
export function toAppError(reason: unknown): AppError {
  if (reason instanceof AppError) return reason;
  if (isIpcError(reason)) return new AppError(reason);
  const message = reason instanceof Error ? reason.message : String(reason);
  return new AppError({ code: "internal", message }, { cause: reason });
}
