import { AppError, toAppError } from "../ipc/errors";
import type { Ipc, Model, ModelsChanged } from "../ipc";
import { EventsHeard } from "./eventsHeard";

/** The models on this machine, and which one answers. */
export class Models {
  list = $state.raw<Model[]>([]);
  selectedId = $state<string | null>(null);
  readonly events = new EventsHeard();
  selected = $derived(this.list.find((model) => model.id === this.selectedId) ?? null);

  #ipc: Ipc;

  constructor(ipc: Ipc) {
    this.#ipc = ipc;
  }

  get isReady(): boolean {
    return this.selected?.state.type === "ready";
  }

  /** Whether the selected model is on its way to answer. */
  get isLoading(): boolean {
    return this.selected?.state.type === "loading" || this.preparation !== null;
  }

  /** How far the selected model is being prepared for this machine; null where it is not. */
  get preparation(): { done: number; total: number } | null {
    const state = this.selected?.state;
    return state?.type === "preparing" ? state : null;
  }

  /** Why the selected model cannot answer; null where it can, or is not known to fail. */
  get failure(): AppError | null {
    const state = this.selected?.state;
    return state?.type === "failed" ? new AppError(state.error) : null;
  }

  apply(change: ModelsChanged): void {
    this.list = change.models;
    this.selectedId = change.selectedModel;
  }

  /**
   * Loads a model and lets it answer from now on. A model that fails says so by its state; what
   * failed without being the model's fault is returned.
   */
  async select(id: string): Promise<AppError | null> {
    this.selectedId = id;
    this.#setState(id, { type: "loading" });
    try {
      const model = await this.#ipc.selectModel(id);
      // Where another one was chosen meanwhile, this one is no longer loaded.
      if (this.selectedId === id) {
        this.list = this.list.map((other) => (other.id === model.id ? model : other));
      }
      return null;
    } catch (reason) {
      const error = toAppError(reason);
      await this.#readAgain();
      const isKnown = this.list.some((model) => model.id === id && model.state.type === "failed");
      return isKnown ? null : error;
    }
  }

  /** Lets the model that is being prepared answer as it is. */
  async skipPreparation(): Promise<void> {
    try {
      await this.#ipc.skipPreparation();
    } catch {
      // It goes on then, and is seen to.
    }
  }

  /** After a failure only the backend knows which model is loaded. */
  async #readAgain(): Promise<void> {
    const isNewest = this.events.ask();
    try {
      const { models, selectedModel } = await this.#ipc.snapshot();
      if (isNewest()) this.apply({ models, selectedModel });
    } catch {
      // The error that led here is the one worth telling; the next event brings the truth.
    }
  }

  #setState(id: string, state: Model["state"]): void {
    this.list = this.list.map((model) => (model.id === id ? { ...model, state } : model));
  }
}
