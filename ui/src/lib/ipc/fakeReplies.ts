// The replies of the backend in memory: what a scenario's script says, played as events.

import { AppError } from "./errors";
import type { FakeConversations } from "./fakeConversations";
import type { Pause } from "./fakePause";
import { type ScenarioName, script, usage } from "./fakeScenarios";
import type { ChatEvent, Entry, Model, Question, Reply } from "./index";

export type OnEvent = (event: ChatEvent) => void;

export class FakeReplies {
  #scenario: ScenarioName;
  #pause: Pause;
  #conversations: FakeConversations;
  #selected: () => Model;
  #stop: (() => void) | null = null;
  #nextId = 0;

  constructor(
    scenario: ScenarioName,
    pause: Pause,
    conversations: FakeConversations,
    selected: () => Model,
  ) {
    this.#scenario = scenario;
    this.#pause = pause;
    this.#conversations = conversations;
    this.#selected = selected;
  }

  async send(conversation: string, text: string, onEvent: OnEvent): Promise<Reply> {
    const model = this.#selected();
    if (this.#stop) throw new AppError({ code: "busy", message: "a reply is being generated" });
    if (model.state.type === "failed") throw new AppError(model.state.error);
    const question = this.#newQuestion(text);
    this.#put(conversation, { type: "question", ...question });
    this.#conversations.nameAfter(conversation, text);
    return this.#generate(conversation, this.#newReply(model), question, onEvent);
  }

  edit(conversation: string, message: string, text: string, onEvent: OnEvent): Promise<Reply> {
    const question = this.#newQuestion(text);
    question.versions = this.#conversations.branch(conversation, message, question.id);
    this.#put(conversation, { type: "question", ...question });
    return this.#generate(conversation, this.#newReply(this.#selected()), question, onEvent);
  }

  regenerate(conversation: string, reply: string, onEvent: OnEvent): Promise<Reply> {
    const next = this.#newReply(this.#selected());
    next.versions = this.#conversations.branch(conversation, reply, next.id);
    return this.#generate(conversation, next, null, onEvent);
  }

  continue(conversation: string, onEvent: OnEvent): Promise<Reply> {
    const reply: Reply = { ...this.#lastReply(conversation), status: { type: "generating" } };
    return this.#generate(conversation, reply, null, onEvent);
  }

  /** Stops the reply that is being generated, where there is one. */
  stop(): void {
    this.#stop?.();
  }

  async #generate(
    conversation: string,
    reply: Reply,
    question: Question | null,
    onEvent: OnEvent,
  ): Promise<Reply> {
    const stopped = new Promise<"stopped">((resolve) => {
      this.#stop = () => resolve("stopped");
    });
    this.#put(conversation, { type: "reply", ...reply });
    onEvent({ type: "started", question, reply: structuredClone(reply) });
    const status = await this.#play(reply, onEvent, stopped);
    this.#stop = null;
    const done: Reply = { ...reply, status, usage: status.type === "failed" ? null : usage };
    this.#put(conversation, { type: "reply", ...done });
    return done;
  }

  /** Plays the script into `reply`, until it ends or is stopped. */
  async #play(
    reply: Reply,
    onEvent: OnEvent,
    stopped: Promise<"stopped">,
  ): Promise<Reply["status"]> {
    let tokens = 0;
    for (const step of script(this.#scenario)) {
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
      if (step.type === "prefill") onEvent(step);
      else onEvent({ ...step, tokens: (tokens += 1) });
    }
    return { type: "finished", reason: "endOfTurn" };
  }

  #newQuestion(text: string): Question {
    const id = this.#id("question");
    return { id, text, at: new Date().toISOString(), versions: [id], pinned: false };
  }

  #newReply(model: Model): Reply {
    const id = this.#id("reply");
    return {
      id,
      text: "",
      thinking: null,
      status: { type: "generating" },
      model: model.name,
      usage: null,
      at: new Date().toISOString(),
      versions: [id],
      pinned: false,
    };
  }

  #id(kind: string): string {
    this.#nextId += 1;
    return `${kind}-${this.#nextId}`;
  }

  #put(conversation: string, entry: Entry): void {
    this.#conversations.put(conversation, entry);
  }

  #lastReply(conversation: string): Reply {
    const last = this.#conversations.entries(conversation).at(-1);
    if (last?.type !== "reply") {
      throw new AppError({
        code: "internal",
        message: "the conversation does not end with a reply",
      });
    }
    return last;
  }
}
