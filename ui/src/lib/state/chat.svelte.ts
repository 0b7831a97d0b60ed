import { SvelteMap } from "svelte/reactivity";
import { type AppError, toAppError } from "../ipc/errors";
import type {
  ChatEvent,
  Conversation,
  ConversationSummary,
  Draft as Estimate,
  Entry,
  Ipc,
  Reply,
} from "../ipc";
import { seenAboveLine } from "../pinned";
import { Draft } from "./draft.svelte";
import { type Frames, LiveReply, onceDrawn, screenFrames } from "./liveReply.svelte";
import type { Models } from "./models.svelte";

const LOOK_AGAIN_AFTER_MILLISECONDS = 1000;

/** How many messages a conversation opens with, and how many more come each time one asks for earlier ones. */
export const MESSAGES_AT_A_TIME = 60;

type Stream = (conversation: string, onEvent: (event: ChatEvent) => void) => Promise<Reply>;

/** The reply under way. There is one at a time, and it goes on where another conversation is shown. */
interface Running {
  conversation: string;
  /** Its preview; null until the question is recorded. */
  live: LiveReply | null;
}

interface StreamOptions {
  /** The entry in whose place the new ones stand, with all that follows it. */
  replaces?: string;
  /** Called once, when the backend has the question. */
  onRecorded?: () => void;
}

/** The conversation that is shown: what was said, what is being said, and what failed. */
export class Chat {
  id = $state("");
  about = $state.raw<ConversationSummary | null>(null);
  systemPrompt = $state<string | null>(null);
  entries = $state.raw<Entry[]>([]);
  /** How many messages stand above the first entry and were not read yet. */
  earlier = $state(0);
  running = $state.raw<Running | null>(null);
  /** A command that failed and left no reply behind that could say so. */
  failure = $state.raw<AppError | null>(null);
  /** Send was pressed while the model cannot take it yet; the draft goes out once it can. */
  isWaitingForModel = $state(false);
  /** The message that the list is to show, until it has done so. */
  target = $state<string | null>(null);
  /** Seconds of thinking of the replies of this run, by id. */
  readonly thinkingSeconds = new SvelteMap<string, number>();
  /** Bytes of memory that the resets of this run destroyed, by the id of their lines. */
  readonly freedBytes = new SvelteMap<string, number>();
  readonly draft: Draft;

  #ipc: Ipc;
  #models: Models;
  #frames: Frames;
  #isReadingEarlier = false;
  #contextAsked = 0;
  /** What the conversation took of the window when no reply was being written. */
  #context = $state.raw<Estimate | null>(null);

  constructor(ipc: Ipc, models: Models, frames: Frames = screenFrames) {
    this.#ipc = ipc;
    this.#models = models;
    this.#frames = frames;
    this.draft = new Draft(ipc, () => this.id);
  }

  /** The preview of the running reply, where it is one of this conversation and streams into this window. */
  live = $derived.by(() => (this.running?.conversation === this.id ? this.running.live : null));

  /** What the conversation takes of the model's window, a running reply included; null where no model can say. */
  context = $derived.by(() => {
    const before = this.#context;
    const prefill = this.live?.prefill;
    if (!before || !this.live || !prefill) return before;
    const { tokens } = this.live;
    return {
      ...before,
      promptTokens: prefill.total + tokens,
      reservedTokens: Math.max(0, before.reservedTokens - tokens),
    };
  });

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

  isGenerating = $derived.by(
    () => this.running?.conversation === this.id || this.lastReply?.status.type === "generating",
  );

  /** Whether the model is writing a reply in another conversation. */
  isBusyElsewhere = $derived.by(
    () => this.running !== null && this.running.conversation !== this.id,
  );

  /** Whether the model writes anywhere, so that nothing else can be asked of it. */
  isBusy = $derived(this.isGenerating || this.isBusyElsewhere);

  /** Index of the line above which the model sees nothing. -1 where there is none. */
  lastReset = $derived(
    this.entries.findLastIndex(({ type }) => type === "memoryReset" || type === "contextLine"),
  );

  /** Ids of the messages above that line that the model still sees, because they are pinned. */
  seenAboveLine = $derived(seenAboveLine(this.entries, this.lastReset));

  /** The name of the conversation: its own, or until it has one the first line of the first question. */
  title = $derived.by(() => {
    if (this.about?.title) return this.about.title;
    const first = this.entries.find((entry) => entry.type === "question");
    return first?.text.trim().split("\n")[0]?.slice(0, 120) ?? "";
  });

  get isPrivate(): boolean {
    return this.about?.private ?? false;
  }

  open(conversation: Conversation): void {
    if (this.id !== conversation.id) {
      this.id = conversation.id;
      this.draft.open(conversation.draft);
      this.failure = null;
      this.isWaitingForModel = false;
      this.target = null;
      // A count of the one before that is still under way says nothing of this one.
      this.#contextAsked += 1;
      this.#context = null;
    }
    this.#take(conversation);
    // After a reload the stream of a running reply is gone; its text comes by asking again.
    if (this.live === null && this.lastReply?.status.type === "generating") {
      setTimeout(() => void this.#reopen(conversation.id), LOOK_AGAIN_AFTER_MILLISECONDS);
    }
    // The count reads all of it, on processors that have to draw it first.
    onceDrawn(this.#frames, () => {
      if (this.id === conversation.id) void this.measureContext();
    });
  }

  /** Reads messages above the first one. Resolves with whether there are more entries than before. */
  async loadEarlier(): Promise<boolean> {
    if (this.#isReadingEarlier || this.earlier === 0) return false;
    this.#isReadingEarlier = true;
    const { id } = this;
    const before = this.entries.length;
    await this.#attempt(async () => {
      const conversation = await this.#ipc.openConversation(id, this.#most + MESSAGES_AT_A_TIME);
      if (this.id === id) this.#prepend(conversation);
    });
    this.#isReadingEarlier = false;
    return this.id === id && this.entries.length > before;
  }

  /** Lets the list show a message. */
  reveal(message: string): void {
    this.target = message;
  }

  /** Sends the draft, or notes that it waits for the model. */
  async submit(): Promise<void> {
    if (this.draft.isEmpty || this.isGenerating || this.#models.selected === null) return;
    if (this.draft.excessTokens > 0) return;
    if (this.#models.isLoading || this.isBusyElsewhere) {
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
    void this.measureContext();
    await this.#sendWaiting();
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

  /** Makes the last reply again; the old one stays as a version of it. */
  async retry(): Promise<void> {
    const old = this.lastReply;
    if (this.isBusy || old === null) return;
    await this.#stream((id, onEvent) => this.#ipc.regenerateReply(id, old.id, onEvent), {
      replaces: old.id,
    });
  }

  /** Goes on with the last reply where it was stopped or cut. */
  async continue(): Promise<void> {
    if (this.isBusy || this.lastReply === null) return;
    await this.#stream((id, onEvent) => this.#ipc.continueReply(id, onEvent));
  }

  /** Sends another version of a question; the old one stays, with what followed it. */
  async edit(question: string, text: string): Promise<void> {
    if (this.isBusy || text.trim() === "") return;
    await this.#stream((id, onEvent) => this.#ipc.editMessage(id, question, text.trim(), onEvent), {
      replaces: question,
    });
  }

  /** Shows another version of a message, with what followed that one. */
  async selectVersion(message: string): Promise<void> {
    if (this.isGenerating) return;
    const { id } = this;
    await this.#attempt(async () => {
      const conversation = await this.#ipc.selectBranch(id, message, this.#most);
      if (this.id === id) this.#take(conversation);
      await this.measureContext();
    });
  }

  /** Keeps a message in what the model is given when its turn leaves a full window, or no longer. */
  async pinMessage(message: string, pinned: boolean): Promise<void> {
    const { id } = this;
    await this.#attempt(async () => {
      await this.#ipc.pinMessage(id, message, pinned);
      const entry = this.entries.find((other) => other.id === message);
      if (this.id === id && (entry?.type === "question" || entry?.type === "reply")) {
        this.#put({ ...entry, pinned });
      }
      await this.#measureAll();
    });
  }

  /** Lets the model forget everything above; the messages stay. */
  async resetMemory(): Promise<void> {
    if (this.isBusy || this.entries.length === 0) return;
    if (this.entries.at(-1)?.type === "memoryReset") return;
    const { id } = this;
    await this.#attempt(async () => {
      const { line, freedBytes } = await this.#ipc.resetConversation(id);
      this.freedBytes.set(line.id, freedBytes);
      if (this.id === id) this.#put(line);
      await this.#measureAll();
    });
  }

  /** Takes a reset back: the model sees again what stands above its line. */
  async undoReset(reset: string): Promise<void> {
    if (this.isBusy) return;
    const { id } = this;
    await this.#attempt(async () => {
      await this.#ipc.undoReset(id, reset);
      if (this.id === id) this.entries = this.entries.filter((entry) => entry.id !== reset);
      await this.#measureAll();
    });
  }

  /** Tells the model something before the conversation; nothing where the text is empty. */
  async setSystemPrompt(text: string): Promise<void> {
    const { id } = this;
    const told = text.trim() === "" ? null : text;
    await this.#ipc.setSystemPrompt(id, told);
    if (this.id === id) this.systemPrompt = told;
    void this.#measureAll();
  }

  /** Asks what the conversation takes of the window. An answer that came too late is dropped. */
  async measureContext(): Promise<void> {
    const asked = (this.#contextAsked += 1);
    if (this.isBusy) return;
    if (!this.#models.isReady) {
      this.#context = null;
      return;
    }
    try {
      const context = await this.#ipc.estimateDraft(this.id, "");
      if (asked === this.#contextAsked) this.#context = context;
    } catch {
      // Without a count there is no meter; sending says what is wrong, if anything is.
      if (asked === this.#contextAsked) this.#context = null;
    }
  }

  dismissFailure(): void {
    this.failure = null;
  }

  /** The messages that are read now, without the lines between them. */
  get #most(): number {
    const messages = this.entries.filter(({ type }) => type === "question" || type === "reply");
    return Math.max(messages.length, MESSAGES_AT_A_TIME);
  }

  #take(conversation: Conversation): void {
    this.about = conversation.about;
    this.systemPrompt = conversation.systemPrompt;
    this.entries = conversation.entries;
    this.earlier = conversation.earlier;
  }

  /** Takes what stands above the first entry. The others stay the same objects, so that nothing is set anew. */
  #prepend(conversation: Conversation): void {
    const first = this.entries[0]?.id;
    const place = conversation.entries.findIndex((entry) => entry.id === first);
    if (place === -1) {
      this.#take(conversation);
      return;
    }
    this.entries = [...conversation.entries.slice(0, place), ...this.entries];
    this.earlier = conversation.earlier;
  }

  async #measureAll(): Promise<void> {
    await Promise.all([this.draft.measure(), this.measureContext()]);
  }

  async #sendWaiting(): Promise<void> {
    if (!this.isWaitingForModel || this.#models.isLoading || this.isBusy) return;
    this.isWaitingForModel = false;
    if (this.#models.isReady) await this.submit();
  }

  async #send(text: string): Promise<void> {
    await this.#stream((id, onEvent) => this.#ipc.sendMessage(id, text.trim(), onEvent), {
      onRecorded: () => {
        // What was typed meanwhile is not what was sent, so it stays.
        if (this.draft.text === text) this.draft.clear();
      },
    });
  }

  /** Runs one streaming command in the conversation that is shown now, whichever is shown when it ends. */
  async #stream(start: Stream, options: StreamOptions = {}): Promise<void> {
    const { id } = this;
    this.failure = null;
    this.running = { conversation: id, live: null };
    let live: LiveReply | null = null;
    let ended = false;
    try {
      const result = await start(id, (event) => {
        if (ended) return;
        if (event.type === "started") {
          live = this.#begin(id, event, options);
        } else {
          live?.take(event);
        }
      });
      ended = true;
      if (live === null && this.id === id) options.onRecorded?.();
      await this.#finish(id, result, live);
    } catch (reason) {
      ended = true;
      this.running = null;
      if (this.id === id) this.failure = toAppError(reason);
      // The backend may have recorded the question and a failed reply before the command failed.
      if (live !== null) await this.#reopen(id);
    }
    void this.measureContext();
    await this.#sendWaiting();
  }

  #begin(
    id: string,
    { question, reply }: Extract<ChatEvent, { type: "started" }>,
    { replaces, onRecorded }: StreamOptions,
  ): LiveReply {
    const live = new LiveReply(reply.id, reply.text, reply.thinking ?? "", this.#frames);
    this.running = { conversation: id, live };
    if (this.id !== id) return live;
    const place = this.entries.findIndex((entry) => entry.id === replaces);
    if (place !== -1) this.entries = this.entries.slice(0, place);
    if (question) this.#put({ type: "question", ...question });
    this.#put({ type: "reply", ...reply });
    onRecorded?.();
    return live;
  }

  /** The result is the truth: it replaces whatever the preview showed. */
  async #finish(id: string, reply: Reply, live: LiveReply | null): Promise<void> {
    if (live !== null && live.thinkingSeconds > 0) {
      this.thinkingSeconds.set(reply.id, live.thinkingSeconds);
    }
    this.running = null;
    if (this.id !== id) return;
    const known = this.entries.some((entry) => entry.id === reply.id);
    if (known || live !== null) this.#put({ type: "reply", ...reply });
    // Without its first event the question is not in the list yet.
    if (!known) await this.#reopen(id);
    else void this.#readLines(id);
  }

  /** Shows the line of a window that was full for the last reply: the stream does not tell of it. */
  async #readLines(id: string): Promise<void> {
    try {
      const conversation = await this.#ipc.openConversation(id, this.#most);
      if (this.id !== id || this.isBusy) return;
      const known = (line: Entry) => this.entries.some((entry) => entry.id === line.id);
      const lines = conversation.entries.filter(({ type }) => type === "contextLine");
      if (!lines.every(known)) this.#take(conversation);
    } catch {
      // The line is there when the conversation is opened the next time.
    }
  }

  /** Adds an entry, or replaces the one with the same id. */
  #put(entry: Entry): void {
    const index = this.entries.findIndex((other) => other.id === entry.id);
    this.entries = index === -1 ? [...this.entries, entry] : this.entries.with(index, entry);
  }

  async #reopen(id: string): Promise<void> {
    if (this.id !== id) return;
    await this.#attempt(async () => {
      const conversation = await this.#ipc.openConversation(id, this.#most);
      if (this.id === id && this.live === null) this.open(conversation);
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
