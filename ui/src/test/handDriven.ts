import { AppError } from "../lib/ipc/errors";
import { FakeIpc } from "../lib/ipc/fake";
import type { ScenarioName } from "../lib/ipc/fakeScenarios";
import type { ChatEvent, ErrorCode, Reply } from "../lib/ipc";
import type { Frames } from "../lib/state/liveReply.svelte";

/** Frames that come when the test says so. */
export class HandDrivenFrames implements Frames {
  time = 0;
  asked = 0;
  /** Milliseconds that pass with every look at the clock. */
  slowness = 0;
  /** Every rest that was asked for, in milliseconds. */
  readonly rests: number[] = [];
  #waiting: (() => void)[] = [];

  request(callback: () => void): void {
    this.asked += 1;
    this.#waiting.push(callback);
  }

  later(milliseconds: number, callback: () => void): void {
    this.rests.push(milliseconds);
    callback();
  }

  now(): number {
    this.time += this.slowness;
    return this.time;
  }

  next(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const callback of waiting) callback();
  }

  /** Lets what is shown be drawn, and counts what is asked for from then on. */
  draw(): void {
    this.next();
    this.next();
    this.asked = 0;
  }
}

/** A backend whose streaming commands send and end what and when the test says. */
export class HandDrivenIpc extends FakeIpc {
  /** Streaming commands in the order they came. */
  readonly calls: string[] = [];
  stops = 0;
  emit: (event: ChatEvent) => void = () => undefined;
  resolve: (reply: Reply) => void = () => undefined;
  reject: (error: AppError) => void = () => undefined;

  constructor(scenario: ScenarioName = "empty") {
    super(scenario, () => Promise.resolve());
  }

  override sendMessage(
    _conversation: string,
    text: string,
    onEvent: (event: ChatEvent) => void,
  ): Promise<Reply> {
    return this.#stream(`send ${text}`, onEvent);
  }

  override continueReply(
    _conversation: string,
    onEvent: (event: ChatEvent) => void,
  ): Promise<Reply> {
    return this.#stream("continue", onEvent);
  }

  override regenerateReply(
    _conversation: string,
    _reply: string,
    onEvent: (event: ChatEvent) => void,
  ): Promise<Reply> {
    return this.#stream("retry", onEvent);
  }

  override stopReply(): Promise<void> {
    this.stops += 1;
    return Promise.resolve();
  }

  fail(code: ErrorCode, message = "it failed"): void {
    this.reject(new AppError({ code, message }));
  }

  #stream(call: string, onEvent: (event: ChatEvent) => void): Promise<Reply> {
    this.calls.push(call);
    this.emit = onEvent;
    return new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }
}

export function newReply(changes: Partial<Reply> = {}): Reply {
  return {
    id: "reply-1",
    text: "",
    thinking: null,
    status: { type: "generating" },
    model: "Ember",
    usage: null,
    at: "2026-03-14T12:00:00Z",
    versions: ["reply-1"],
    pinned: false,
    ...changes,
  };
}

export function started(reply: Reply = newReply(), text: string | null = "hello"): ChatEvent {
  const question =
    text === null
      ? null
      : {
          id: "question-1",
          text,
          at: "2026-03-14T12:00:00Z",
          versions: ["question-1"],
          pinned: false,
        };
  return { type: "started", question, reply };
}
