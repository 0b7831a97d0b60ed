import { tick } from "svelte";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { AppError } from "../ipc/errors";
import type { Draft, Entry } from "../ipc";
import type { ScenarioName } from "../ipc/fakeScenarios";
import { HandDrivenFrames, HandDrivenIpc, newReply, started } from "../../test/handDriven";
import { Application } from "./application.svelte";

let ipc: HandDrivenIpc;
let frames: HandDrivenFrames;
let application: Application;

async function open(scenario: ScenarioName = "empty"): Promise<void> {
  ipc = new HandDrivenIpc(scenario);
  frames = new HandDrivenFrames();
  application = new Application(ipc, frames);
  application.follow();
  await application.open();
  frames.draw();
}

beforeEach(() => open());

const done = newReply({
  text: "Hello, Ada.",
  status: { type: "finished", reason: "endOfTurn" },
});

describe("a reply that streams", () => {
  test("deltas gather and one frame shows them all", async () => {
    const { chat } = application;
    const sending = chat.say("hello");
    ipc.emit(started());
    for (const text of ["Hel", "lo, ", "A"]) ipc.emit({ type: "text", text, tokens: 1 });
    expect(chat.live?.text).toBe("");
    expect(frames.asked).toBe(1);
    frames.next();
    expect(chat.live?.text).toBe("Hello, A");
    ipc.resolve(done);
    await sending;
  });

  test("slow frames are followed by rests, fast ones are not", async () => {
    const { chat } = application;
    void chat.say("hello");
    ipc.emit(started());
    const show = async (text: string) => {
      ipc.emit({ type: "text", text, tokens: 1 });
      frames.next();
      await tick();
    };
    await show("fast");
    await show("fast");
    expect(frames.rests).toEqual([]);
    frames.slowness = 50;
    await show("slow");
    await show("slow");
    expect(frames.rests.length).toBeGreaterThan(0);
    expect(chat.live?.text).toBe("fastfastslowslow");
  });

  test("the result replaces the preview", async () => {
    const { chat } = application;
    const sending = chat.say("hello");
    ipc.emit(started());
    ipc.emit({ type: "text", text: "Hellooo", tokens: 1 });
    frames.next();
    ipc.resolve(done);
    await sending;
    expect(chat.live).toBeNull();
    expect(chat.entries.map((entry) => entry.type)).toEqual(["question", "reply"]);
    expect(chat.lastReply?.text).toBe("Hello, Ada.");
    expect(chat.isGenerating).toBe(false);
  });

  test("an event after the result changes nothing", async () => {
    const { chat } = application;
    const sending = chat.say("hello");
    ipc.emit(started());
    ipc.resolve(done);
    await sending;
    ipc.emit({ type: "text", text: "late", tokens: 1 });
    ipc.emit(started());
    frames.next();
    expect(chat.live).toBeNull();
    expect(chat.lastReply?.text).toBe("Hello, Ada.");
  });

  test("a stream that lost its first event ends in what the backend has", async () => {
    const { chat } = application;
    const { conversation } = await ipc.snapshot();
    const question: Entry = {
      type: "question",
      id: "q",
      text: "hello",
      at: done.at,
      versions: ["q"],
      pinned: false,
    };
    conversation.entries = [question, { type: "reply", ...done }];
    vi.spyOn(ipc, "openConversation").mockResolvedValue(conversation);
    const sending = chat.say("hello");
    ipc.resolve(done);
    await sending;
    expect(chat.entries.map((entry) => entry.type)).toEqual(["question", "reply"]);
    expect(chat.draft.text).toBe("");
  });

  test("reading, thinking and writing follow each other, and the thinking is timed", async () => {
    const { chat } = application;
    const sending = chat.say("hello");
    ipc.emit(started());
    expect(chat.live?.phase).toBe("waiting");
    ipc.emit({ type: "prefill", done: 3, total: 9, reused: 2 });
    frames.next();
    expect(chat.live?.phase).toBe("reading");
    expect(chat.live?.prefill).toEqual({ done: 3, total: 9, reused: 2 });
    frames.time = 1000;
    ipc.emit({ type: "thinking", text: "hm", tokens: 1 });
    frames.time = 3500;
    ipc.emit({ type: "text", text: "So", tokens: 2 });
    frames.time = 9000;
    frames.next();
    expect(chat.live?.phase).toBe("writing");
    ipc.resolve(done);
    await sending;
    expect(chat.thinkingSeconds.get("reply-1")).toBe(2.5);
  });

  test("a second message waits for nothing and is not sent while one runs", async () => {
    const { chat } = application;
    void chat.say("hello");
    ipc.emit(started());
    await chat.say("again");
    expect(ipc.calls).toEqual(["send hello"]);
  });
});

describe("the meter", () => {
  test("counts the prompt and the tokens of a running reply, and then what was measured", async () => {
    const { chat } = application;
    await vi.waitFor(() => expect(chat.context).not.toBeNull());
    const before = chat.context;
    const sending = chat.say("hello");
    ipc.emit(started());
    expect(chat.context).toEqual(before);
    ipc.emit({ type: "prefill", done: 40, total: 40, reused: 0 });
    ipc.emit({ type: "thinking", text: "hm", tokens: 2 });
    ipc.emit({ type: "text", text: "So", tokens: 5 });
    frames.next();
    expect(chat.context?.promptTokens).toBe(45);
    expect(chat.context?.reservedTokens).toBe(Math.max(0, (before?.reservedTokens ?? 0) - 5));
    expect(chat.context?.window).toBe(before?.window);
    ipc.resolve(done);
    await sending;
    await vi.waitFor(() => expect(chat.context?.promptTokens).not.toBe(45));
  });
});

describe("the draft", () => {
  test("goes once the question is recorded, not before", async () => {
    const { chat } = application;
    const sending = chat.say("hello");
    expect(chat.draft.text).toBe("hello");
    ipc.emit(started());
    expect(chat.draft.text).toBe("");
    ipc.resolve(done);
    await sending;
  });

  test("stays when sending fails, and the error says why", async () => {
    const { chat } = application;
    const sending = chat.say("my long and careful text");
    ipc.fail("diskFull", "no space left on `/data`");
    await sending;
    expect(chat.draft.text).toBe("my long and careful text");
    expect(chat.failure?.code).toBe("diskFull");
    expect(chat.isGenerating).toBe(false);
    expect(chat.entries).toEqual([]);
  });

  test("typed while the last one was on its way stays", async () => {
    const { chat } = application;
    const sending = chat.say("hello");
    chat.draft.write("and another thing");
    ipc.emit(started());
    expect(chat.draft.text).toBe("and another thing");
    ipc.resolve(done);
    await sending;
  });

  test("is not sent while it is too long", async () => {
    await open("tooLong");
    const { chat } = application;
    chat.draft.write("word ".repeat(300));
    await chat.draft.measure();
    expect(chat.draft.excessTokens).toBeGreaterThan(0);
    await chat.submit();
    expect(ipc.calls).toEqual([]);
    expect(chat.draft.isEmpty).toBe(false);
  });

  test("counts its tokens from 200 on", async () => {
    const { chat } = application;
    chat.draft.write("x".repeat(4 * 199));
    await chat.draft.measure();
    expect(chat.draft.tokens).toBeNull();
    chat.draft.write("x".repeat(4 * 200));
    await chat.draft.measure();
    expect(chat.draft.tokens).toBe(200);
  });

  test("drops an answer about its size that came too late", async () => {
    const { chat } = application;
    let answer: (size: Draft) => void = () => undefined;
    vi.spyOn(ipc, "estimateDraft").mockReturnValue(new Promise((resolve) => (answer = resolve)));
    chat.draft.write("x".repeat(2000));
    const measuring = chat.draft.measure();
    chat.draft.write("short");
    answer({
      draftTokens: 500,
      promptTokens: 500,
      newTokens: 500,
      window: 100,
      reservedTokens: 25,
      readingSeconds: null,
    });
    await measuring;
    expect(chat.draft.size).toBeNull();
  });
});

describe("a model that still loads", () => {
  beforeEach(() => open("loading"));

  test("lets Send wait and sends by itself when it is ready", async () => {
    const { chat } = application;
    await chat.say("hello");
    expect(chat.isWaitingForModel).toBe(true);
    expect(ipc.calls).toEqual([]);
    chat.draft.write("hello, and more");
    ipc.finishLoading();
    await vi.waitFor(() => expect(ipc.calls).toEqual(["send hello, and more"]));
    expect(chat.isWaitingForModel).toBe(false);
  });

  test("stop takes the waiting back and keeps the draft", async () => {
    const { chat } = application;
    await chat.say("hello");
    await chat.stop();
    ipc.finishLoading();
    await Promise.resolve();
    expect(ipc.calls).toEqual([]);
    expect(ipc.stops).toBe(0);
    expect(chat.draft.text).toBe("hello");
  });
});

describe("stop, retry, continue", () => {
  test("stop asks the backend, and the partial text stays", async () => {
    const { chat } = application;
    const sending = chat.say("hello");
    ipc.emit(started());
    await chat.stop();
    expect(ipc.stops).toBe(1);
    ipc.resolve(newReply({ text: "Hel", status: { type: "finished", reason: "cancelled" } }));
    await sending;
    expect(chat.lastReply?.text).toBe("Hel");
    expect(chat.isGenerating).toBe(false);
  });

  test("stop without a running reply asks nobody", async () => {
    await application.chat.stop();
    expect(ipc.stops).toBe(0);
  });

  test("continue goes on from the text so far", async () => {
    await open("stopped");
    const { chat } = application;
    const reply = chat.lastReply;
    if (!reply) throw new Error("the scenario ends with a reply");
    const length = chat.entries.length;
    const continuing = chat.continue();
    ipc.emit(started({ ...reply, status: { type: "generating" } }, null));
    ipc.emit({ type: "text", text: " a hundred years.", tokens: 1 });
    frames.next();
    expect(chat.live?.text).toBe(`${reply.text} a hundred years.`);
    expect(chat.entries).toHaveLength(length);
    ipc.resolve({ ...reply, text: `${reply.text} a hundred years.` });
    await continuing;
    expect(ipc.calls).toEqual(["continue"]);
    expect(chat.lastReply?.text).toMatch(/a hundred years\.$/u);
  });

  test("retry replaces the last reply in its place", async () => {
    await open("conversation");
    const { chat } = application;
    const before = chat.entries.length;
    const retrying = chat.retry();
    ipc.emit(started(newReply({ id: "r2" }), null));
    ipc.resolve(
      newReply({ id: "r2", text: "new", status: { type: "finished", reason: "endOfTurn" } }),
    );
    await retrying;
    expect(ipc.calls).toEqual(["retry"]);
    expect(chat.entries).toHaveLength(before);
    expect(chat.lastReply?.text).toBe("new");
  });
});

describe("the memory", () => {
  test("a reset adds its divider and keeps the messages", async () => {
    await open("conversation");
    const { chat } = application;
    const before = chat.entries;
    await chat.resetMemory();
    expect(chat.entries.slice(0, -1)).toEqual(before);
    expect(chat.lastReset).toBe(before.length);
  });

  test("a second reset in a row adds nothing", async () => {
    await open("conversation");
    const { chat } = application;
    await chat.resetMemory();
    const length = chat.entries.length;
    await chat.resetMemory();
    expect(chat.entries).toHaveLength(length);
  });
});

describe("the window as a whole", () => {
  test("a first snapshot that fails can be read again", async () => {
    const failing = vi.spyOn(ipc, "snapshot").mockRejectedValueOnce(new Error("no answer"));
    const fresh = new Application(ipc, frames);
    await fresh.open();
    expect(fresh.isOpen).toBe(false);
    expect(fresh.failure?.message).toBe("no answer");
    failing.mockRestore();
    await fresh.open();
    expect(fresh.isOpen).toBe(true);
    expect(fresh.failure).toBeNull();
  });

  test("a model that cannot be loaded says so in its own state", async () => {
    await application.selectModel("phi-broken");
    expect(application.models.failure?.code).toBe("modelBroken");
    expect(application.models.selectedId).toBe("phi-broken");
  });

  test("a switch that the backend refuses leaves the model as it was and says why", async () => {
    vi.spyOn(ipc, "selectModel").mockRejectedValue(new AppError({ code: "busy", message: "busy" }));
    await application.selectModel("smollm2-135m");
    expect(application.models.selectedId).toBe("ember");
    expect(application.models.isReady).toBe(true);
    expect(application.chat.failure?.code).toBe("busy");
  });

  test("a reply that was running before a reload is asked for until it has ended", async () => {
    vi.useFakeTimers();
    const snapshot = await ipc.snapshot();
    const running = structuredClone(snapshot);
    running.conversation.entries = [{ type: "reply", ...newReply({ text: "Hel" }) }];
    const ended = structuredClone(snapshot);
    ended.conversation.entries = [{ type: "reply", ...done }];
    vi.spyOn(ipc, "snapshot").mockResolvedValue(running);
    vi.spyOn(ipc, "openConversation").mockResolvedValue(ended.conversation);
    const reloaded = new Application(ipc, frames);
    await reloaded.open();
    expect(reloaded.chat.isGenerating).toBe(true);
    await vi.advanceTimersByTimeAsync(1500);
    expect(reloaded.chat.lastReply?.text).toBe("Hello, Ada.");
    expect(reloaded.chat.isGenerating).toBe(false);
    vi.useRealTimers();
  });

  test("loading one model unloads the others", async () => {
    await application.selectModel("smollm2-135m");
    const ready = application.models.list.filter((model) => model.state.type === "ready");
    expect(ready.map((model) => model.id)).toEqual(["smollm2-135m"]);
  });

  test("a dismissed notice is gone", async () => {
    await open("notices");
    const [first] = application.notices.list;
    await application.notices.dismiss(first?.id ?? "");
    expect(application.notices.list.map((notice) => notice.id)).toEqual(["template"]);
    expect((await ipc.snapshot()).notices).toHaveLength(1);
  });

  test("the first line of the first question names the conversation", async () => {
    await open("conversation");
    expect(application.chat.title).toBe("My name is Ada.");
  });
});
