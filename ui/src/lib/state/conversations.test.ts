import { beforeEach, describe, expect, test, vi } from "vitest";
import { AppError } from "../ipc/errors";
import type { ScenarioName } from "../ipc/fakeScenarios";
import type { Conversation, Draft, SearchHit } from "../ipc";
import { HandDrivenFrames, HandDrivenIpc, newReply, started } from "../../test/handDriven";
import { Application } from "./application.svelte";

let ipc: HandDrivenIpc;
let frames: HandDrivenFrames;
let application: Application;

async function open(scenario: ScenarioName = "conversations"): Promise<void> {
  ipc = new HandDrivenIpc(scenario);
  frames = new HandDrivenFrames();
  application = new Application(ipc, frames);
  application.follow();
  await application.open();
  frames.draw();
}

beforeEach(() => open());

const ids = () => application.conversations.list.map(({ id }) => id);
const done = newReply({ text: "Hello.", status: { type: "finished", reason: "endOfTurn" } });

describe("the list", () => {
  test("comes in parts and grows when it is asked to", async () => {
    await open("thousands");
    const { conversations } = application;
    expect(conversations.list).toHaveLength(100);
    expect(conversations.hasMore).toBe(true);
    const reading = vi.spyOn(ipc, "listConversations");
    await conversations.loadMore();
    expect(reading, "only what is new is read").toHaveBeenCalledExactlyOnceWith(100, 100);
    expect(conversations.list).toHaveLength(200);
    expect(new Set(ids()).size, "each stands there once").toBe(200);
    await conversations.changed();
    expect(conversations.list).toHaveLength(200);
  });

  test("changes that come while it is read are read once more, not once each", async () => {
    const reading = vi.spyOn(ipc, "listConversations");
    const { conversations } = application;
    await Promise.all(Array.from({ length: 20 }, () => conversations.changed()));
    expect(reading).toHaveBeenCalledTimes(2);
  });

  test("a new title is the name of the conversation that is shown, too", async () => {
    const { conversations, chat } = application;
    await conversations.rename(chat.id, "  Ada  ");
    expect(chat.title).toBe("Ada");
    expect(conversations.list.find(({ id }) => id === chat.id)?.title).toBe("Ada");
  });

  test("a pinned conversation stands first", async () => {
    const { conversations } = application;
    await conversations.pin("earlier-30", true);
    expect(conversations.list.find(({ pinned }) => !pinned)?.id).not.toBe("earlier-30");
    expect(ids().indexOf("earlier-30")).toBeLessThan(3);
  });

  test("a deleted conversation is put back by Undo, and shown again where it was shown", async () => {
    const { conversations, chat, toasts } = application;
    await conversations.open("earlier-4");
    await conversations.remove("earlier-4");
    expect(ids()).not.toContain("earlier-4");
    expect(chat.id).not.toBe("earlier-4");
    toasts.current?.action?.run();
    await vi.waitFor(() => expect(chat.id).toBe("earlier-4"));
    expect(ids()).toContain("earlier-4");
  });

  test("a deleted private conversation is gone, and says so without an Undo", async () => {
    await open("private");
    const { conversations, chat, toasts } = application;
    const { id } = chat;
    expect(ids()).toContain(id);
    await conversations.remove(id);
    expect(ids()).not.toContain(id);
    expect(toasts.current?.text).toMatch(/^The private conversation is gone for good/u);
    expect(toasts.current?.action).toBeNull();
    expect(() => ipc.restoreConversation(id), "nothing is left to put back").toThrow();
  });

  test("deleting another conversation leaves the shown one alone", async () => {
    const { conversations, chat } = application;
    const { id } = chat;
    await conversations.remove("earlier-4");
    expect(chat.id).toBe(id);
  });

  test("a copy is shown", async () => {
    const { conversations, chat } = application;
    await conversations.duplicate("earlier-4");
    expect(chat.id).not.toBe("earlier-4");
    expect(chat.title).toBe("A name for a grey cat");
  });

  test("what could not be done says so and changes nothing", async () => {
    const { conversations, toasts } = application;
    const before = ids();
    vi.spyOn(ipc, "deleteConversation").mockRejectedValue(
      new AppError({ code: "diskFull", message: "no space left on `/data`" }),
    );
    await conversations.remove("earlier-4");
    expect(ids()).toEqual(before);
    expect(toasts.current?.isError).toBe(true);
    expect(toasts.current?.text).toMatch(/could not be deleted.*disk is full.*no space left/u);
  });
});

describe("files", () => {
  test("an export says where it is, and one that was not wanted says nothing", async () => {
    const { conversations, toasts } = application;
    await conversations.export(null, "json");
    expect(toasts.current?.text).toBe(
      "The conversations were exported to /home/ada/Hearth conversations.json.",
    );
    toasts.dismiss();
    vi.spyOn(ipc, "exportConversations").mockResolvedValue(null);
    await conversations.export("earlier-1", "markdown");
    expect(toasts.current).toBeNull();
  });

  test("an import says what came of it", async () => {
    await application.conversations.import();
    expect(application.toasts.current?.text).toBe(
      "12 conversations imported, 3 here already, 1 could not be read.",
    );
  });
});

describe("opening another conversation", () => {
  test("each keeps its draft, also one typed a moment before", async () => {
    const { conversations, chat } = application;
    const first = chat.id;
    chat.draft.write("half a thought");
    await conversations.open("earlier-3");
    expect(chat.draft.text).toBe("");
    chat.draft.write("another one");
    await conversations.open(first);
    expect(chat.draft.text).toBe("half a thought");
    await conversations.open("earlier-3");
    expect(chat.draft.text).toBe("another one");
  });

  test("the last one asked for is shown, whichever answer comes last", async () => {
    const { conversations, chat } = application;
    const answers = new Map<string, () => void>();
    const read = ipc.openConversation.bind(ipc);
    vi.spyOn(ipc, "openConversation").mockImplementation(
      (id, most) =>
        new Promise<Conversation>((resolve) => answers.set(id, () => resolve(read(id, most)))),
    );
    const slow = conversations.open("earlier-3");
    const quick = conversations.open("earlier-5");
    await vi.waitFor(() => expect(answers.size).toBe(2));
    answers.get("earlier-5")?.();
    await quick;
    answers.get("earlier-3")?.();
    await slow;
    expect(chat.id).toBe("earlier-5");
  });

  test("a reply goes on in the background and is there when one comes back", async () => {
    const { conversations, chat } = application;
    const first = chat.id;
    const sending = chat.say("hello");
    ipc.emit(started());
    await conversations.open("earlier-3");
    ipc.emit({ type: "text", text: "Hel", tokens: 1 });
    frames.next();
    expect(chat.isGenerating).toBe(false);
    expect(chat.isBusyElsewhere).toBe(true);
    expect(chat.running?.conversation).toBe(first);
    expect(chat.entries.map(({ id }) => id)).toEqual(["earlier-3-q", "earlier-3-r"]);
    await conversations.open(first);
    expect(chat.isGenerating).toBe(true);
    expect(chat.live?.text).toBe("Hel");
    ipc.resolve(done);
    await sending;
    expect(chat.isBusy).toBe(false);
  });

  test("the end of a reply in the background changes nothing here, and lets a waiting draft go", async () => {
    const { conversations, chat } = application;
    const sending = chat.say("hello");
    ipc.emit(started());
    await conversations.open("earlier-3");
    chat.draft.write("and here?");
    await chat.submit();
    expect(chat.isWaitingForModel).toBe(true);
    expect(ipc.calls).toEqual(["send hello"]);
    ipc.resolve(done);
    await vi.waitFor(() => expect(ipc.calls).toEqual(["send hello", "send and here?"]));
    expect(chat.entries.map(({ id }) => id)).toEqual(["earlier-3-q", "earlier-3-r"]);
    ipc.resolve(done);
    await sending;
  });

  test("one that fails to open leaves the shown one and says so", async () => {
    const { conversations, chat, toasts } = application;
    const { id } = chat;
    await conversations.open("gone");
    expect(chat.id).toBe(id);
    expect(toasts.current?.text).toContain("could not be opened");
  });

  test("a private one is known as such", async () => {
    await application.conversations.begin(true);
    expect(application.chat.isPrivate).toBe(true);
    expect(application.chat.entries).toEqual([]);
  });
});

describe("a long conversation", () => {
  beforeEach(() => open("thousands"));

  test("opens with its end and reads on upwards", async () => {
    const { chat } = application;
    expect(chat.entries).toHaveLength(60);
    expect(chat.earlier).toBe(1940);
    const end = chat.entries.at(-1);
    expect(await chat.loadEarlier()).toBe(true);
    expect(chat.entries).toHaveLength(120);
    expect(chat.entries.at(-1), "what was there is not set anew").toBe(end);
    expect(chat.earlier).toBe(1880);
  });

  test("two calls at once read once", async () => {
    const { chat } = application;
    await Promise.all([chat.loadEarlier(), chat.loadEarlier()]);
    expect(chat.entries).toHaveLength(120);
  });

  test("a message that was found far above is among those that are shown", async () => {
    const { conversations, chat } = application;
    await conversations.open(chat.id, "q40");
    expect(chat.entries.some(({ id }) => id === "q40")).toBe(true);
    expect(chat.target).toBe("q40");
  });
});

describe("versions", () => {
  beforeEach(() => open("conversation"));

  test("an edited question takes the place of the old one with what followed, and the old one comes back", async () => {
    const { chat } = application;
    await chat.edit("q1", "My name is Eve.");
    expect(chat.entries.map((entry) => entry.type)).toEqual(["question", "reply"]);
    const [edited] = chat.entries;
    if (edited?.type !== "question") throw new Error("it begins with a question");
    expect(edited.text).toBe("My name is Eve.");
    expect(edited.versions).toHaveLength(2);
    await chat.selectVersion("q1");
    expect(chat.entries.map(({ id }) => id)).toEqual(["q1", "r1", "q2", "r2"]);
  });

  test("an edit that is refused leaves the list as it was and says why", async () => {
    const { chat } = application;
    const before = chat.entries;
    vi.spyOn(ipc, "editMessage").mockRejectedValue(new AppError({ code: "busy", message: "busy" }));
    await chat.edit("q1", "My name is Eve.");
    expect(chat.entries).toEqual(before);
    expect(chat.failure?.code).toBe("busy");
  });

  test("an empty edit is not sent", async () => {
    const editing = vi.spyOn(ipc, "editMessage");
    await application.chat.edit("q1", "  ");
    expect(editing).not.toHaveBeenCalled();
  });
});

describe("the memory", () => {
  test("a reset is taken back", async () => {
    await open("reset");
    const { chat } = application;
    expect(chat.lastReset).toBe(2);
    const used = chat.context?.promptTokens ?? 0;
    await chat.undoReset("m1");
    expect(chat.lastReset).toBe(-1);
    expect(chat.context?.promptTokens).toBeGreaterThan(used);
  });

  test("above the line of a full window the messages count as forgotten", async () => {
    await open("contextLine");
    expect(application.chat.lastReset).toBe(2);
  });

  test("the meter counts a conversation once it was drawn, where it is still the one that is shown", async () => {
    await open("conversations");
    const { conversations } = application;
    const [first = "", second = ""] = ids();
    const estimate = vi.spyOn(ipc, "estimateDraft");
    await conversations.open(second);
    await conversations.open(first);
    expect(estimate).not.toHaveBeenCalled();
    frames.draw();
    expect(estimate.mock.calls.map(([id]) => id)).toEqual([first]);
  });

  test("a count of the conversation before that comes late is dropped", async () => {
    await open("conversations");
    const { chat, conversations } = application;
    let answer: (size: Draft) => void = () => undefined;
    vi.spyOn(ipc, "estimateDraft").mockReturnValue(new Promise((resolve) => (answer = resolve)));
    const counting = chat.measureContext();
    await conversations.open(ids()[1] ?? "");
    answer({
      draftTokens: 0,
      promptTokens: 500,
      newTokens: 500,
      window: 2048,
      reservedTokens: 25,
      readingSeconds: null,
    });
    await counting;
    expect(chat.context).toBeNull();
  });

  test("the meter knows what is used, and nothing where no model is ready", async () => {
    await open("conversation");
    await vi.waitFor(() => expect(application.chat.context).not.toBeNull());
    expect(application.chat.context?.window).toBe(2048);
    await open("loading");
    expect(application.chat.context).toBeNull();
  });

  test("a system prompt is kept, and an empty one is none", async () => {
    const { chat } = application;
    await chat.setSystemPrompt("Answer in French.");
    expect(chat.systemPrompt).toBe("Answer in French.");
    await chat.setSystemPrompt("  ");
    expect(chat.systemPrompt).toBeNull();
  });
});

describe("the search", () => {
  test("finds words in all conversations", async () => {
    const { search } = application.conversations;
    search.write("lighthouse");
    await search.run();
    expect(search.hits?.length).toBeGreaterThan(0);
    const matched = search.hits?.[0]?.snippet.filter((part) => part.matched);
    expect(matched?.map(({ text }) => text)).toEqual(["lighthouse"]);
  });

  test("goes on with the typing: of what is typed during a search only the last is searched for", async () => {
    const { search } = application.conversations;
    const answers: ((hits: SearchHit[]) => void)[] = [];
    const searching = vi
      .spyOn(ipc, "searchConversations")
      .mockImplementation(() => new Promise((resolve) => answers.push(resolve)));
    search.write("l");
    for (const words of ["li", "lig", "light"]) search.write(words);
    const asked = () => searching.mock.calls.map(([words]) => words);
    expect(asked(), "at once, and one at a time").toEqual(["l"]);
    answers[0]?.([]);
    await vi.waitFor(() => expect(asked()).toEqual(["l", "light"]));
    expect(search.hits, "the answer to other words is not shown").toBeNull();
    answers[1]?.([]);
    await vi.waitFor(() => expect(search.hits).toEqual([]));
    expect(asked()).toEqual(["l", "light"]);
  });

  test("an answer to words that are no longer asked for is dropped", async () => {
    const { search } = application.conversations;
    search.write("lighthouse");
    const late = search.run();
    search.write("");
    await late;
    expect(search.hits).toBeNull();
    expect(search.isActive).toBe(false);
  });
});
