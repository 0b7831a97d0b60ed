import { errorTexts, toAppError } from "../ipc/errors";

/** Long enough to read a sentence and to reach its button. */
const SHOWN_MILLISECONDS = 10_000;

export interface ToastAction {
  label: string;
  run: () => void;
}

export interface Toast {
  id: number;
  text: string;
  isError: boolean;
  action: ToastAction | null;
}

/** A sentence about what was just done, which leaves by itself. The newest takes the place of the one before. */
export class Toasts {
  current = $state.raw<Toast | null>(null);
  #nextId = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  show(text: string, action: ToastAction | null = null): void {
    this.#show(text, false, action);
  }

  /** Says what failed. `failed` is the sentence for it: "The conversation could not be renamed." */
  showFailure(failed: string, reason: unknown): void {
    const error = toAppError(reason);
    this.#show(`${failed} ${errorTexts[error.code].what} ${error.message}`.trim(), true, null);
  }

  dismiss(): void {
    this.hold();
    this.current = null;
  }

  /** What is looked at stays. */
  hold(): void {
    clearTimeout(this.#timer);
  }

  release(): void {
    this.hold();
    this.#timer = setTimeout(() => this.dismiss(), SHOWN_MILLISECONDS);
  }

  #show(text: string, isError: boolean, action: ToastAction | null): void {
    this.#nextId += 1;
    this.current = { id: this.#nextId, text, isError, action };
    this.release();
  }
}
