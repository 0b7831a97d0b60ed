import { type AppError, toAppError } from "../ipc/errors";

/** What is asked of the backend one thing after another: whether it works, and what failed last. */
export class Attempts {
  failure = $state.raw<AppError | null>(null);
  isBusy = $state(false);

  /** Does the work. Whether it succeeded is returned. */
  protected async attempt(work: () => Promise<void>): Promise<boolean> {
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
