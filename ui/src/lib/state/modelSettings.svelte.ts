import type { Ipc, ModelChoice, ModelNumberName, ModelSetting, ModelSettings } from "../ipc";
import { Attempts } from "./attempts.svelte";

/** What a field holds: nothing, a number, or something that is none or outside of its range. */
export type Typed = { value: number | null } | "wrong";

/** The settings of one model, as they are typed. */
export class ModelSettingsForm extends Attempts {
  /** Null until they were read. */
  known = $state.raw<ModelSettings | null>(null);
  system = $state("");
  texts = $state<Partial<Record<ModelNumberName, string>>>({});

  #ipc: Ipc;
  #model: string;

  constructor(ipc: Ipc, model: string) {
    super();
    this.#ipc = ipc;
    this.#model = model;
  }

  async read(): Promise<void> {
    await this.attempt(async () => this.#take(await this.#ipc.readModelSettings(this.#model)));
  }

  /** Whether that was possible is returned. */
  async save(): Promise<boolean> {
    if (!this.canSave) return false;
    return this.attempt(async () => {
      this.#take(await this.#ipc.setModelSettings(this.#model, this.#choice()));
    });
  }

  get numbers(): ModelSetting[] {
    return this.known?.numbers ?? [];
  }

  get canSave(): boolean {
    if (this.isBusy || this.known === null) return false;
    return !this.numbers.some((number) => this.typed(number) === "wrong") && this.isChanged;
  }

  get isChanged(): boolean {
    if (this.known === null) return false;
    if (this.system.trim() !== (this.known.system ?? "").trim()) return true;
    return this.numbers.some((number) => this.text(number.name).trim() !== shown(number.chosen));
  }

  /** Whether anything is another than the model's own. */
  get hasChoice(): boolean {
    return this.system.trim() !== "" || this.numbers.some(({ name }) => this.text(name) !== "");
  }

  text(name: ModelNumberName): string {
    return this.texts[name] ?? "";
  }

  typed(number: ModelSetting): Typed {
    const text = this.text(number.name).trim();
    if (text === "") return { value: null };
    // A comma is what some languages write in the place of a point.
    const value = Number(text.replace(",", "."));
    const isRight =
      value >= number.least && value <= number.most && (!number.isWhole || Number.isInteger(value));
    return isRight ? { value } : "wrong";
  }

  /** Leaves everything to the model; it holds when it is saved. */
  clear(): void {
    this.system = "";
    this.texts = {};
  }

  #take(settings: ModelSettings): void {
    this.known = settings;
    this.system = settings.system ?? "";
    this.texts = Object.fromEntries(
      settings.numbers.map(({ name, chosen }) => [name, shown(chosen)]),
    );
  }

  #choice(): ModelChoice {
    const numbers = this.numbers.flatMap((number) => {
      const typed = this.typed(number);
      const value = typed === "wrong" ? null : typed.value;
      return value === null ? [] : [{ name: number.name, value }];
    });
    return { system: this.system.trim() === "" ? null : this.system, numbers };
  }
}

function shown(value: number | null): string {
  return value === null ? "" : String(value);
}
