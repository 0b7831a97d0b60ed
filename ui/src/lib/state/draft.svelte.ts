import type { Draft as DraftSize, Ipc } from "../ipc";

/** Short drafts are not counted: the number would say nothing, and typing stays free of calls. */
const SHORTEST_MEASURED = 160;
const TOKENS_WORTH_SHOWING = 200;
const MEASURE_AFTER_MILLISECONDS = 250;
const SAVE_AFTER_MILLISECONDS = 800;

/** The text in the composer, and how much of the model's window it takes. */
export class Draft {
  text = $state("");
  size = $state.raw<DraftSize | null>(null);

  #ipc: Ipc;
  #conversation: () => string;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #asked = 0;
  /** What is typed and not yet kept. It names its conversation, because another one may be shown by then. */
  #unsaved: { conversation: string; text: string } | null = null;
  #saveTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(ipc: Ipc, conversation: () => string) {
    this.#ipc = ipc;
    this.#conversation = conversation;
  }

  get isEmpty(): boolean {
    return this.text.trim() === "";
  }

  /** Tokens of the draft, once there are enough of them to matter; else null. */
  get tokens(): number | null {
    const tokens = this.size?.draftTokens ?? 0;
    return tokens >= TOKENS_WORTH_SHOWING ? tokens : null;
  }

  /** By how many tokens conversation and draft go beyond the model's window; 0 where they fit. */
  get excessTokens(): number {
    return this.size ? Math.max(0, this.size.promptTokens - this.size.window) : 0;
  }

  write(text: string): void {
    this.#unsaved = { conversation: this.#conversation(), text };
    clearTimeout(this.#saveTimer);
    this.#saveTimer = setTimeout(() => void this.save(), SAVE_AFTER_MILLISECONDS);
    this.#show(text);
  }

  /** Shows what was kept of a conversation; what was typed in the one before is kept at once. */
  open(text: string): void {
    void this.save();
    this.#show(text);
  }

  /** Keeps what was typed since the last time. */
  async save(): Promise<void> {
    clearTimeout(this.#saveTimer);
    const unsaved = this.#unsaved;
    if (unsaved === null) return;
    this.#unsaved = null;
    try {
      await this.#ipc.setDraft(unsaved.conversation, unsaved.text);
    } catch {
      // What could not be kept is still in the composer, and the next change tries again.
      this.#unsaved ??= unsaved;
    }
  }

  /** Asks for the size of the draft as it is now. An answer that came too late is dropped. */
  async measure(): Promise<void> {
    if (this.text.length < SHORTEST_MEASURED) {
      this.size = null;
      return;
    }
    const asked = (this.#asked += 1);
    try {
      const size = await this.#ipc.estimateDraft(this.#conversation(), this.text);
      if (asked === this.#asked) this.size = size;
    } catch {
      // Without a loaded model there is no count; sending says what is wrong, if anything is.
      if (asked === this.#asked) this.size = null;
    }
  }

  clear(): void {
    this.write("");
  }

  #show(text: string): void {
    this.text = text;
    clearTimeout(this.#timer);
    this.#asked += 1;
    if (text.length < SHORTEST_MEASURED) {
      this.size = null;
      return;
    }
    this.#timer = setTimeout(() => void this.measure(), MEASURE_AFTER_MILLISECONDS);
  }
}
