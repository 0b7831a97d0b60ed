// The backend in memory: the same interface as the window's, for the browser and for tests.

import { AppError } from "./errors";
import {
  initialSnapshot,
  openingQuestion,
  type ScenarioName,
  scenarioNames,
  script,
  usage,
} from "./fakeScenarios";
import type {
  ChatEvent,
  Draft,
  Entry,
  Ipc,
  Model,
  ModelsChanged,
  Notice,
  Reply,
  Snapshot,
  Unsubscribe,
} from "./index";

type OnEvent = (event: ChatEvent) => void;

/** How the fake waits; tests pass one that does not. */
export type Pause = (milliseconds: number) => Promise<void>;

const realPause: Pause = (milliseconds) =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));

const LOADING_MILLISECONDS = 900;
const CHARACTERS_PER_TOKEN = 4;

export class FakeIpc implements Ipc {
  readonly scenario: ScenarioName;
  /** Addresses that were opened, newest last. */
  readonly openedLinks: string[] = [];

  #pause: Pause;
  #snapshot: Snapshot;
  #stop: (() => void) | null = null;
  #nextId = 0;
  #modelListeners = new Set<(change: ModelsChanged) => void>();
  #noticeListeners = new Set<(notices: Notice[]) => void>();

  constructor(scenario: ScenarioName = "empty", pause: Pause = realPause) {
    this.scenario = scenario;
    this.#pause = pause;
    this.#snapshot = initialSnapshot(scenario);
  }

  /** A question that the scenario wants asked as soon as the window is open. */
  get openingQuestion(): string | null {
    return openingQuestion(this.scenario);
  }

  snapshot(): Promise<Snapshot> {
    return Promise.resolve(structuredClone(this.#snapshot));
  }

  async sendMessage(_conversation: string, text: string, onEvent: OnEvent): Promise<Reply> {
    const model = this.#selected();
    if (this.#stop) throw new AppError({ code: "busy", message: "a reply is being generated" });
    if (model.state.type === "failed") throw new AppError(model.state.error);
    const question = { id: this.#id("question"), text, at: new Date().toISOString() };
    this.#put({ type: "question", ...question });
    return this.#generate(this.#newReply(model), question, onEvent);
  }

  continueReply(_conversation: string, onEvent: OnEvent): Promise<Reply> {
    return this.#generate({ ...this.#lastReply(), status: { type: "generating" } }, null, onEvent);
  }

  retryReply(_conversation: string, onEvent: OnEvent): Promise<Reply> {
    const { id } = this.#lastReply();
    return this.#generate({ ...this.#newReply(this.#selected()), id }, null, onEvent);
  }

  stopReply(): Promise<void> {
    this.#stop?.();
    return Promise.resolve();
  }

  resetMemory(): Promise<Entry> {
    const entry: Entry = {
      type: "memoryReset",
      id: this.#id("reset"),
      at: new Date().toISOString(),
    };
    this.#put(entry);
    return Promise.resolve(entry);
  }

  async selectModel(id: string): Promise<Model> {
    const broken = this.#model(id).state;
    this.#changeModels(id, { type: "loading" });
    await this.#pause(LOADING_MILLISECONDS);
    if (broken.type === "failed") {
      this.#changeModels(id, broken);
      throw new AppError(broken.error);
    }
    this.#changeModels(id, { type: "ready" });
    return this.#model(id);
  }

  skipPreparation(): Promise<void> {
    this.#changeModels(this.#selected().id, { type: "loading" });
    return Promise.resolve();
  }

  measureDraft(_conversation: string, text: string): Promise<Draft> {
    const draftTokens = Math.ceil(text.length / CHARACTERS_PER_TOKEN);
    const window = this.#selected().contextLength ?? 4096;
    const used = this.scenario === "tooLong" ? window - 200 : 31;
    return Promise.resolve({ draftTokens, promptTokens: used + draftTokens, window });
  }

  openLink(url: string): Promise<void> {
    this.openedLinks.push(url);
    return Promise.resolve();
  }

  dismissNotice(id: string): Promise<void> {
    this.#snapshot.notices = this.#snapshot.notices.filter((notice) => notice.id !== id);
    for (const listener of this.#noticeListeners) listener(this.#snapshot.notices);
    return Promise.resolve();
  }

  onModelsChanged(listener: (change: ModelsChanged) => void): Unsubscribe {
    this.#modelListeners.add(listener);
    return () => this.#modelListeners.delete(listener);
  }

  onNoticesChanged(listener: (notices: Notice[]) => void): Unsubscribe {
    this.#noticeListeners.add(listener);
    return () => this.#noticeListeners.delete(listener);
  }

  onAboutChanged(): Unsubscribe {
    return () => undefined;
  }

  /** Ends the loading of the scenario `loading`. */
  finishLoading(): void {
    this.#changeModels(this.#selected().id, { type: "ready" });
  }

  async #generate(
    reply: Reply,
    question: { id: string; text: string; at: string } | null,
    onEvent: OnEvent,
  ): Promise<Reply> {
    const stopped = new Promise<"stopped">((resolve) => {
      this.#stop = () => resolve("stopped");
    });
    this.#put({ type: "reply", ...reply });
    onEvent({ type: "started", question, reply: structuredClone(reply) });
    const status = await this.#play(reply, onEvent, stopped);
    this.#stop = null;
    const done: Reply = { ...reply, status, usage: status.type === "failed" ? null : usage };
    this.#put({ type: "reply", ...done });
    return done;
  }

  /** Plays the script into `reply`, until it ends or is stopped. */
  async #play(
    reply: Reply,
    onEvent: OnEvent,
    stopped: Promise<"stopped">,
  ): Promise<Reply["status"]> {
    for (const step of script(this.scenario)) {
      if (step.type === "hold") {
        await stopped;
        return { type: "finished", reason: "cancelled" };
      }
      if (step.type === "fail") {
        const message = "the logits of `model.onnx` hold NaN at position 1,288";
        return { type: "failed", error: { code: "crashed", message } };
      }
      if (step.type === "pause") {
        if ((await Promise.race([this.#pause(step.milliseconds), stopped])) === "stopped") {
          return { type: "finished", reason: "cancelled" };
        }
        continue;
      }
      if (step.type === "text") reply.text += step.text;
      if (step.type === "thinking") reply.thinking = (reply.thinking ?? "") + step.text;
      onEvent(step);
    }
    return { type: "finished", reason: "endOfTurn" };
  }

  #newReply(model: Model): Reply {
    return {
      id: this.#id("reply"),
      text: "",
      thinking: null,
      status: { type: "generating" },
      model: model.name,
      usage: null,
      at: new Date().toISOString(),
    };
  }

  #id(kind: string): string {
    this.#nextId += 1;
    return `${kind}-${this.#nextId}`;
  }

  #put(entry: Entry): void {
    const { entries } = this.#snapshot.conversation;
    const index = entries.findIndex((other) => other.id === entry.id);
    this.#snapshot.conversation.entries =
      index === -1 ? [...entries, entry] : entries.with(index, entry);
  }

  #lastReply(): Reply {
    const last = this.#snapshot.conversation.entries.at(-1);
    if (last?.type !== "reply") {
      throw new AppError({
        code: "internal",
        message: "the conversation does not end with a reply",
      });
    }
    return last;
  }

  #model(id: string): Model {
    const model = this.#snapshot.models.find((other) => other.id === id);
    if (!model) throw new AppError({ code: "modelMissing", message: `no model \`${id}\`` });
    return model;
  }

  #selected(): Model {
    return this.#model(this.#snapshot.selectedModel ?? "");
  }

  /** Gives one model a new state; as in the backend, loading it unloads the others. */
  #changeModels(id: string, state: Model["state"]): void {
    this.#snapshot.selectedModel = id;
    this.#snapshot.models = this.#snapshot.models.map((model) => {
      if (model.id === id) return { ...model, state };
      return model.state.type === "failed" ? model : { ...model, state: { type: "available" } };
    });
    const { models, selectedModel } = structuredClone(this.#snapshot);
    for (const listener of this.#modelListeners) listener({ models, selectedModel });
  }
}

/** The fake that an address asks for: `?fake=streaming`. */
export function fakeFromAddress(search: string): FakeIpc {
  const asked = new URLSearchParams(search).get("fake");
  return new FakeIpc(scenarioNames.find((name) => name === asked) ?? "empty");
}
