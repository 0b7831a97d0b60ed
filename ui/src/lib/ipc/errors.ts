// What each error of the backend means to a person: one table, one row per code.

import type { ErrorCode, IpcError } from "./index";

/** What a person can do about an error by one press of a button; `none` where no button helps. */
export type ErrorAction = "retry" | "chooseModel" | "shorten" | "none";

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
    advice: "Put the file back into the model’s folder, or choose another model.",
    action: "chooseModel",
  },
  modelBroken: {
    severity: "error",
    what: "This model cannot be loaded because one of its files is damaged or not supported.",
    kept: "Your conversation is safe.",
    advice: "Install the model again, or choose another one.",
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
