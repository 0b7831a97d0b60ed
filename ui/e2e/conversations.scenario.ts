import { Key } from "selenium-webdriver";
import { expect } from "vitest";
import { scenario } from "./scenario";
import type { HearthWindow } from "./window";

const LONG = Array.from({ length: 400 }, (_, index) => `word${index}`).join(" ");

/** Begins a conversation and says something in it. */
async function begin(window: HearthWindow, text: string): Promise<void> {
  await window.command("n");
  await window.until("the conversation is empty", async () => {
    return (await window.all("question")).length === 0;
  });
  await window.ask(text);
}

scenario("a conversation is there again after a restart, with its draft", async ({ open }) => {
  const first = await open();
  await first.ask("My name is Brindlo.");
  const reply = await first.lastReply();
  await first.titlesBecome(["My name is Brindlo."]);
  await (await first.find("composer")).sendKeys("What is my");
  // Keeping a draft waits for a pause in the typing.
  await first.driver.sleep(1500);
  await first.close();

  const second = await open();
  await second.titlesBecome(["My name is Brindlo."]);
  expect((await second.texts("question"))[0]).toContain("My name is Brindlo.");
  expect(await second.lastReply()).toBe(reply);
  const composer = await second.find("composer");
  expect(await composer.getAttribute("value")).toBe("What is my");
  await second.picture("conversation after a restart");
  await composer.sendKeys(" name?", Key.ENTER);
  await second.replyEnds(2);
  expect(await second.lastReply()).toContain("Brindlo");
});

scenario("conversations are switched, renamed, pinned and copied", async ({ open }) => {
  const window = await open();
  await window.modelBecomes("ember", "ready");
  await window.ask("My name is Brindlo.");
  await begin(window, "What can you do?");
  await window.titlesBecome(["What can you do?", "My name is Brindlo."]);
  await window.openConversation("My name is Brindlo.");
  expect((await window.texts("question"))[0]).toContain("My name is Brindlo.");

  await window.chooseFor("My name is Brindlo.", "rename");
  await window.find("rename-title");
  // The old title is selected, so that typing replaces it.
  await window.press("Names", Key.ENTER);
  await window.titlesBecome(["What can you do?", "Names"]);

  await window.chooseFor("Names", "pin");
  await window.titlesBecome(["Names", "What can you do?"]);
  await window.picture("sidebar");

  await window.chooseFor("What can you do?", "duplicate");
  await window.until("there are three", async () => (await window.titles()).length === 3);
});

scenario("a deleted conversation comes back by Undo", async ({ open }) => {
  const window = await open();
  await window.ask("My name is Brindlo.");
  await window.titlesBecome(["My name is Brindlo."]);
  await window.chooseFor("My name is Brindlo.", "delete");
  await window.titlesBecome([]);
  await window.picture("deleted conversation");
  await (await window.find("toast-action")).click();
  await window.titlesBecome(["My name is Brindlo."]);
  expect((await window.texts("question"))[0]).toContain("My name is Brindlo.");
});

scenario("a search opens at the message that it found", async ({ open }) => {
  const window = await open();
  await window.modelBecomes("ember", "ready");
  await window.ask("My name is Brindlo.");
  await begin(window, "What can you do?");
  await window.shiftCommand("f");
  await (await window.find("search")).sendKeys("brind");
  const hit = await window.find("search-hit");
  expect(await window.textOf(hit)).toContain("Brindlo");
  await window.picture("search");
  await window.press(Key.ENTER);
  await window.until("the other conversation is shown", async () => {
    return ((await window.texts("question"))[0] ?? "").includes("Brindlo");
  });
  await window.shiftCommand("f");
  await window.press(Key.ESCAPE);
  await window.until("the list is there again", async () => (await window.titles()).length === 2);
});

scenario("a private conversation leaves nothing behind", async ({ open }) => {
  const first = await open();
  await first.modelBecomes("ember", "ready");
  await (await first.find("private-conversation")).click();
  await first.find("private");
  await first.ask("My name is Brindlo.");
  await first.picture("private conversation");
  await first.close();

  const second = await open();
  await second.modelBecomes("ember", "ready");
  expect(await second.titles()).toEqual([]);
  expect(await second.all("question")).toHaveLength(0);
});

scenario("an edited message has two versions, and both keep their replies", async ({ open }) => {
  const window = await open();
  await window.ask("My name is Brindlo.");
  const reply = await window.lastReply();
  await (await window.find("edit")).click();
  const field = await window.find("edit-field");
  await window.picture("edit in place");
  await field.clear();
  await field.sendKeys("My name is Quillon.", Key.ENTER);
  await window.until("the new version is shown", async () => {
    return ((await window.texts("question"))[0] ?? "").includes("Quillon");
  });
  await window.replyEnds(1);
  expect((await window.texts("versions"))[0]).toContain("2 of 2");
  await window.picture("versions");
  await (await window.find("previous-version")).click();
  await window.until("the old version is shown", async () => {
    return ((await window.texts("question"))[0] ?? "").includes("Brindlo");
  });
  expect(await window.lastReply()).toBe(reply);
});

scenario("a reset is taken back, and the model remembers again", async ({ open }) => {
  const window = await open();
  await window.ask("My name is Brindlo.");
  await (await window.find("reset")).click();
  await window.find("divider");
  await (await window.find("undo-reset")).click();
  await window.until("the line is gone", async () => (await window.all("divider")).length === 0);
  expect(await window.ask("What is my name?")).toContain("Brindlo");
});

scenario("a reply goes on while another conversation is shown", async ({ data, open }) => {
  await data.useModelThatWrites(LONG);
  const window = await open();
  await window.modelBecomes("recital", "ready");
  await window.send("Write.");
  await window.until("writing has begun", async () => (await window.lastReply()) !== "");
  await window.titlesBecome(["Write."]);
  await (await window.find("new-conversation")).click();
  await window.until("the new one is empty", async () => (await window.all("reply")).length === 0);
  await window.picture("reply in the background");
  await window.openConversation("Write.");
  await window.replyEnds(1);
  expect(await window.lastReply()).toBe(LONG);
});

scenario(
  "what a reply said before Hearth ended is kept, and it can go on",
  async ({ data, open }) => {
    const text = Array.from({ length: 3000 }, (_, index) => `word${index}`).join(" ");
    await data.useModelThatWrites(text);
    const first = await open();
    await first.modelBecomes("recital", "ready");
    await first.send("Write.");
    // Behind 64 words some of them are on the disk, however the window ends.
    await first.until("writing goes on", async () => (await first.lastReply()).includes("word80"));
    await first.close();

    const second = await open();
    await second.modelBecomes("recital", "ready");
    // A window that is closed in order stops the reply first; one that is ended otherwise cannot.
    expect(["cancelled", "interrupted"]).toContain(await second.lastStatus());
    const kept = await second.lastReply();
    expect(kept).not.toBe("");
    expect(text.startsWith(kept)).toBe(true);
    await second.picture("interrupted reply");
    await (await second.find("continue")).click();
    await second.until("the reply has ended", async () => {
      return ["endOfTurn", "maxTokens"].includes(await second.lastStatus());
    });
    expect((await second.lastReply()).startsWith(kept)).toBe(true);
  },
);

scenario("the meter shows what the model sees", async ({ open }) => {
  const window = await open();
  await window.ask("My name is Brindlo.");
  const meter = await window.find("context");
  expect(await window.textOf(meter)).toMatch(/\d of [\d,]+ tokens used/u);
  await meter.click();
  await window.picture("memory of the conversation");
});

scenario("a system prompt is kept with its conversation", async ({ open }) => {
  const window = await open();
  await window.ask("My name is Brindlo.");
  await (await window.find("menu")).click();
  await (await window.find("open-system-prompt")).click();
  await (await window.find("system-prompt")).sendKeys("You are brief.");
  await (await window.find("save-system-prompt")).click();
  await window.until("the dialog is closed", async () => {
    return (await window.all("system-prompt")).length === 0;
  });
  await begin(window, "What can you do?");
  await window.openConversation("My name is Brindlo.");
  await (await window.find("menu")).click();
  await (await window.find("open-system-prompt")).click();
  const field = await window.find("system-prompt");
  expect(await field.getAttribute("value")).toBe("You are brief.");
});

scenario("a hidden sidebar stays hidden after a restart", async ({ open }) => {
  const first = await open();
  await (await first.find("hide-sidebar")).click();
  await first.find("show-sidebar");
  await first.driver.sleep(500);
  await first.close();
  const second = await open();
  await second.find("show-sidebar");
  expect(await second.all("sidebar")).toHaveLength(0);
});
