import { SvelteMap } from "svelte/reactivity";
import { type AppError, toAppError } from "../ipc/errors";
import type { ChatEvent, Conversation, Entry, Ipc, Reply } from "../ipc";
import { Draft } from "./draft.svelte";
import { type Frames, LiveReply, screenFrames } from "./liveReply.svelte";
import type { Models } from "./models.svelte";

const LOOK_AGAIN_AFTER_MILLISECONDS = 1000;

type Stream = (onEvent: (event: ChatEvent) => void) => Promise<Reply>;

/** The conversation: what was said, what is being said, and what failed. */
export class Chat {
  id = $state("");
  entries = $state.raw<Entry[]>([]);
  /** The preview of the running reply; null where none runs or its stream belongs to another window. */
  live = $state.raw<LiveReply | null>(null);
  /** A command that failed and left no reply behind that could say so. */
  failure = $state.raw<AppError | null>(null);
  /** Send was pressed while the model still loads; the draft goes out once it is ready. */
  isWaitingForModel = $state(false);
  /** From pressing Send until the question is recorded. */
  isSending = $state(false);
  /** Seconds of thinking of the replies of this run, by id. */
  readonly thinkingSeconds = new SvelteMap<string, number>();
  readonly draft: Draft;

  #ipc: Ipc;
  #models: Models;
  #frames: Frames;

  constructor(ipc: Ipc, models: Models, frames: Frames = screenFrames) {
    this.#ipc = ipc;
    this.#models = models;
    this.#frames = frames;
    this.draft = new Draft(ipc, () => this.id);
  }

  /** The last entry, where it is a reply: the only one that can be made again or continued. */
  lastReply = $derived.by(() => {
    const last = this.entries.at(-1);
    return last?.type === "reply" ? last : null;
  });

  /** The newest reply that has figures, for the status line. */
  lastMeasured = $derived(
    this.entries.findLast((entry) => entry.type === "reply" && entry.usage !== null) as
      ({ type: "reply" } & Reply) | undefined,
  );

  isGenerating = $derived(
    this.live !== null || this.isSending || this.lastReply?.status.type === "generating",
  );

  /** Index of the last memory reset: the model sees nothing above it. -1 where there is none. */
  lastReset = $derived(this.entries.findLastIndex((entry) => entry.type === "memoryReset"));

  /** The first line of the first question, as the name of the conversation. */
  title = $derived.by(() => {
    const first = this.entries.find((entry) => entry.type === "question");
    return first?.text.trim().split("\n")[0]?.slice(0, 120) ?? "";
  });

  open(conversation: Conversation): void {
    // A reload of the same conversation leaves what is being typed as it is.
    if (this.id !== conversation.id) {
      this.id = conversation.id;
      this.draft.open(conversation.draft);
    }
    this.entries = conversation.entries;
    // After a reload the stream of a running reply is gone; its text comes by asking again.
    if (this.live === null && this.lastReply?.status.type === "generating") {
      setTimeout(() => void this.#reopen(), LOOK_AGAIN_AFTER_MILLISECONDS);
    }
  }

  /** Sends the draft, or notes that it waits for the model. */
  async submit(): Promise<void> {
    if (this.draft.isEmpty || this.isGenerating || this.#models.selected === null) return;
    if (this.draft.excessTokens > 0) return;
    if (this.#models.isLoading) {
      this.isWaitingForModel = true;
      return;
    }
    await this.#send(this.draft.text);
  }

  /** Sends a text that is not the draft, such as a suggestion. */
  async say(text: string): Promise<void> {
    if (this.isGenerating) return;
    this.draft.write(text);
    await this.submit();
  }

  /** To be called whenever the models changed: a waiting draft goes out, or stays where it failed. */
  async modelsChanged(): Promise<void> {
    if (!this.isWaitingForModel || this.#models.isLoading) return;
    this.isWaitingForModel = false;
    if (this.#models.isReady) await this.submit();
  }

  /** Stops the running reply, or the waiting of the draft. The text so far is kept. */
  async stop(): Promise<void> {
    if (this.isWaitingForModel) {
      this.isWaitingForModel = false;
      return;
    }
    if (!this.isGenerating) return;
    await this.#attempt(() => this.#ipc.stopReply(this.id));
  }

  /** Makes the last reply again. */
  async retry(): Promise<void> {
    const old = this.lastReply;
    if (this.isGenerating || old === null) return;
    await this.#stream(
      (onEvent) => this.#ipc.regenerateReply(this.id, old.id, onEvent),
      // The new version stands in the place of the old one.
      () => {
        const isOld = (entry: Entry) => entry.id === old.id && entry.id !== this.live?.id;
        this.entries = this.entries.filter((entry) => !isOld(entry));
      },
    );
  }

  /** Goes on with the last reply where it was stopped or cut. */
  async continue(): Promise<void> {
    if (this.isGenerating || this.lastReply === null) return;
    await this.#stream((onEvent) => this.#ipc.continueReply(this.id, onEvent));
  }

  /** Lets the model forget everything above; the messages stay. */
  async resetMemory(): Promise<void> {
    if (this.isGenerating || this.entries.length === 0) return;
    if (this.entries.at(-1)?.type === "memoryReset") return;
    await this.#attempt(async () => {
      const entry = await this.#ipc.resetConversation(this.id);
      this.#put(entry);
      await this.draft.measure();
    });
  }

  dismissFailure(): void {
    this.failure = null;
  }

  async #send(text: string): Promise<void> {
    this.isSending = true;
    await this.#stream(
      (onEvent) => this.#ipc.sendMessage(this.id, text.trim(), onEvent),
      () => {
        this.isSending = false;
        // What was typed meanwhile is not what was sent, so it stays.
        if (this.draft.text === text) this.draft.clear();
      },
    );
    this.isSending = false;
  }

  /** Runs one streaming command. `onRecorded` is called once, when the backend has the question. */
  async #stream(start: Stream, onRecorded: () => void = () => undefined): Promise<void> {
    this.failure = null;
    let live: LiveReply | null = null;
    let ended = false;
    try {
      const result = await start((event) => {
        if (ended) return;
        if (event.type === "started") {
          live = this.#begin(event);
          onRecorded();
        } else {
          live?.take(event);
        }
      });
      ended = true;
      if (live === null) onRecorded();
      await this.#finish(result, live);
    } catch (reason) {
      ended = true;
      this.failure = toAppError(reason);
      this.live = null;
      // The backend may have recorded the question and a failed reply before the command failed.
      if (live !== null) await this.#reopen();
    }
  }

  #begin(event: Extract<ChatEvent, { type: "started" }>): LiveReply {
    const { question, reply } = event;
    if (question) this.#put({ type: "question", ...question });
    this.#put({ type: "reply", ...reply });
    const live = new LiveReply(reply.id, reply.text, reply.thinking ?? "", this.#frames);
    this.live = live;
    return live;
  }

  /** The result is the truth: it replaces whatever the preview showed. */
  async #finish(reply: Reply, live: LiveReply | null): Promise<void> {
    if (live !== null && live.thinkingSeconds > 0) {
      this.thinkingSeconds.set(reply.id, live.thinkingSeconds);
    }
    const known = this.entries.some((entry) => entry.id === reply.id);
    if (known || live !== null) this.#put({ type: "reply", ...reply });
    this.live = null;
    // Without its first event the question is not in the list yet.
    if (!known) await this.#reopen();
  }

  /** Adds an entry, or replaces the one with the same id. */
  #put(entry: Entry): void {
    const index = this.entries.findIndex((other) => other.id === entry.id);
    this.entries = index === -1 ? [...this.entries, entry] : this.entries.with(index, entry);
  }

  async #reopen(): Promise<void> {
    await this.#attempt(async () => {
      const { conversation } = await this.#ipc.snapshot();
      if (this.live === null) this.open(conversation);
    });
  }

  async #attempt(command: () => Promise<void>): Promise<void> {
    try {
      await command();
    } catch (reason) {
      this.failure = toAppError(reason);
    }
  }
}
