import { AppError, toAppError } from "../ipc/errors";
import type { Ipc, Model, ModelsChanged } from "../ipc";

/** The models on this machine, and which one answers. */
export class Models {
  list = $state.raw<Model[]>([]);
  selectedId = $state<string | null>(null);
  selected = $derived(this.list.find((model) => model.id === this.selectedId) ?? null);

  #ipc: Ipc;

  constructor(ipc: Ipc) {
    this.#ipc = ipc;
  }

  get isReady(): boolean {
    return this.selected?.state.type === "ready";
  }

  get isLoading(): boolean {
    return this.selected?.state.type === "loading";
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

  /** Loads a model and lets it answer from now on. A failure shows as the state of that model. */
  async select(id: string): Promise<void> {
    this.selectedId = id;
    this.#setState(id, { type: "loading" });
    try {
      const model = await this.#ipc.selectModel(id);
      this.list = this.list.map((other) => (other.id === model.id ? model : other));
    } catch (reason) {
      const { code, message } = toAppError(reason);
      this.#setState(id, { type: "failed", error: { code, message } });
    }
  }

  #setState(id: string, state: Model["state"]): void {
    this.list = this.list.map((model) => (model.id === id ? { ...model, state } : model));
  }
}
