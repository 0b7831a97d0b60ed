// Conversations that leave as files and come back.

import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import { DataFolder } from "./dataFolder";
import { scenario } from "./scenario";
import { HearthWindow } from "./window";

/** Chooses from the window's own menu. */
async function choose(window: HearthWindow, item: "import" | "export-all"): Promise<void> {
  await (await window.find("menu")).click();
  await (await window.find(item)).click();
}

async function toastSays(window: HearthWindow, text: string): Promise<void> {
  await window.until(`a toast says "${text}"`, async () => {
    return ((await window.texts("toast"))[0] ?? "").includes(text);
  });
}

/** Opens a window on another data folder, in which nothing is. */
async function elsewhere(play: (data: DataFolder, window: HearthWindow) => Promise<void>) {
  const data = await DataFolder.create();
  try {
    const window = await HearthWindow.open(data);
    try {
      await play(data, window);
    } finally {
      await window.close();
    }
  } finally {
    await data.remove();
  }
}

scenario("a conversation is exported as Markdown and as JSON", async ({ data, open }) => {
  const window = await open();
  const reply = await window.ask("My name is Brindlo.");
  await window.titlesBecome(["My name is Brindlo."]);
  await data.answerDialogue(`${data.base}/`);
  await window.chooseFor("My name is Brindlo.", "export-markdown");
  const name = "My name is Brindlo";
  await toastSays(window, `${name}.md`);
  await window.picture("conversation was exported");
  const markdown = await readFile(join(data.base, `${name}.md`), "utf8");
  expect(markdown).toMatch(
    /^# My name is Brindlo\.\n\n## You\n\nMy name is Brindlo\.\n\n## Ember\n\n/u,
  );
  expect(markdown).toContain(reply.split("\n")[0]);

  await window.chooseFor("My name is Brindlo.", "export-json");
  await toastSays(window, `${name}.json`);
  const file: unknown = JSON.parse(await readFile(join(data.base, `${name}.json`), "utf8"));
  expect(file).toMatchObject({
    format: "hearth conversations",
    version: 1,
    conversations: [
      {
        title: "My name is Brindlo.",
        messages: [{ role: "user", text: "My name is Brindlo." }, { role: "assistant" }],
      },
    ],
  });
});

scenario("a dialogue that is closed exports and imports nothing", async ({ data, open }) => {
  const window = await open();
  await window.ask("My name is Brindlo.");
  await window.titlesBecome(["My name is Brindlo."]);
  await data.answerDialogue("");
  const before = await readdir(data.base);
  await window.chooseFor("My name is Brindlo.", "export-json");
  await choose(window, "export-all");
  await choose(window, "import");
  // Asked for after them, so that their ends have been seen when this has.
  await window.chooseFor("My name is Brindlo.", "duplicate");
  await window.until("the copy is there", async () => (await window.titles()).length === 2);
  expect(await window.all("toast")).toHaveLength(0);
  expect(await readdir(data.base)).toEqual(before);
});

scenario("all conversations move to another data folder", async ({ data, open }) => {
  const window = await open();
  const reply = await window.ask("My name is Brindlo.");
  await window.command("n");
  await window.until(
    "the new one is empty",
    async () => (await window.all("question")).length === 0,
  );
  await window.ask("What can you do?");
  await window.titlesBecome(["What can you do?", "My name is Brindlo."]);
  const file = join(data.base, "all.json");
  await data.answerDialogue(file);
  await choose(window, "export-all");
  await toastSays(window, "were exported");
  await choose(window, "import");
  await toastSays(window, "2 here already");
  await window.close();

  await elsewhere(async (empty, other) => {
    expect(await other.titles()).toEqual([]);
    await empty.answerDialogue(file);
    await choose(other, "import");
    await toastSays(other, "2 conversations imported");
    await other.titlesBecome(["What can you do?", "My name is Brindlo."]);
    await other.picture("imported conversations");
    await other.openConversation("My name is Brindlo.");
    expect(await other.texts("question")).toEqual(["My name is Brindlo."]);
    expect(await other.lastReply()).toBe(reply);
    await other.modelBecomes("ember", "ready");
    expect(await other.ask("What is my name?"), "the model knows what was said").toContain(
      "Brindlo",
    );
  });
});

/** A message of a ChatGPT export. */
function node(id: string, parent: string | null, children: string[], role?: string, text?: string) {
  const content = { content_type: "text", parts: [text] };
  const message = role ? { id, author: { role }, create_time: 1_700_000_000, content } : null;
  return [id, { id, parent, children, message }] as const;
}

scenario("an export of ChatGPT is imported with its branches", async ({ data, open }) => {
  const conversation = {
    title: "Dry wood",
    create_time: 1_700_000_000,
    update_time: 1_700_000_100,
    conversation_id: "6b1f0ff0-0000-4000-8000-000000000001",
    current_node: "second",
    mapping: Object.fromEntries([
      node("root", null, ["question"]),
      node("question", "root", ["first", "second"], "user", "Why does wood crackle?"),
      node("first", "question", [], "assistant", "It is wet."),
      node("second", "question", [], "assistant", "Water in it turns to **steam**."),
    ]),
  };
  const file = join(data.base, "conversations.json");
  await writeFile(file, JSON.stringify([conversation, { title: "nothing in it" }]));
  const window = await open();
  await data.answerDialogue(file);
  await choose(window, "import");
  await toastSays(window, "1 could not be read");
  await window.titlesBecome(["Dry wood"]);
  await window.openConversation("Dry wood");
  expect(await window.texts("question")).toEqual(["Why does wood crackle?"]);
  expect(await window.lastReply()).toBe("Water in it turns to steam.");
  expect((await window.texts("versions"))[0]).toContain("2 of 2");
  await (await window.find("previous-version")).click();
  await window.until("the other version is shown", async () => {
    return (await window.lastReply()) === "It is wet.";
  });
});

scenario("a file that is no conversations is refused and says why", async ({ data, open }) => {
  const file = join(data.base, "letter.json");
  await writeFile(file, "Dear Brindlo,");
  const window = await open();
  await data.answerDialogue(file);
  await choose(window, "import");
  await toastSays(window, "No conversations could be imported.");
  expect((await window.texts("toast"))[0]).toContain("it is no JSON file of conversations");
  expect(await window.titles()).toEqual([]);
});
