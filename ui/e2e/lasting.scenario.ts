// What lasts of a conversation: through a kill, a restart, a full window and another version.

import { Key } from "selenium-webdriver";
import { expect } from "vitest";
import type { DataFolder } from "./dataFolder";
import { HAS_GROUPS } from "./processGroup";
import { scenario } from "./scenario";
import type { HearthWindow } from "./window";

const WORDS = Array.from({ length: 3000 }, (_, index) => `word${index}`).join(" ");

/** A window in which a long reply is being written, and what stands there of it. */
async function beginToWrite(
  data: DataFolder,
  open: () => Promise<HearthWindow>,
): Promise<[HearthWindow, string]> {
  await data.useModelThatWrites(WORDS);
  const window = await open();
  await window.modelBecomes("recital", "ready");
  await window.send("Write.");
  const early = await window.until("some words are there", async () => {
    const text = await window.lastReply();
    return text.includes("word20") && text;
  });
  return [window, early];
}

scenario("a reply that was killed in its middle is kept and goes on", async ({ data, open }) => {
  if (!HAS_GROUPS) {
    console.log("skipped: the window cannot be killed with all that it started here");
    return;
  }
  const [first, early] = await beginToWrite(data, open);
  // What was written in the last second may be lost; what stood there before must not be.
  await first.driver.sleep(1100);
  await first.kill();

  const second = await open();
  expect(await second.lastStatus()).toBe("interrupted");
  expect(await second.texts("question")).toEqual(["Write."]);
  const kept = await second.lastReply();
  expect(WORDS.startsWith(kept)).toBe(true);
  expect(kept.length, "what was there a second before is kept").toBeGreaterThanOrEqual(
    early.length,
  );
  expect(kept.length).toBeLessThan(WORDS.length);
  await second.picture("killed reply");
  await second.modelBecomes("recital", "ready");
  await (await second.find("continue")).click();
  await second.until("the reply goes on to its end", async () => {
    return (await second.lastStatus()) === "endOfTurn";
  });
  expect(await second.lastReply()).toBe(WORDS);
  expect(await second.all("reply")).toHaveLength(1);
});

scenario("a run that the system ends in mid-reply ends in order", async ({ data, open }) => {
  if (!HAS_GROUPS) {
    console.log("skipped: the window cannot be asked to end here");
    return;
  }
  const [first, early] = await beginToWrite(data, open);
  await first.logOut();
  expect(await data.unfinishedRuns(), "the next start has nothing to look for").toEqual([]);

  const second = await open();
  expect(await second.lastStatus()).toBe("cancelled");
  const kept = await second.lastReply();
  expect(kept.startsWith(early), "what was on the screen is kept").toBe(true);
  expect(kept.length).toBeLessThan(WORDS.length);
});

scenario("after a restart only what is new is read, and the details say so", async ({ open }) => {
  const first = await open();
  await first.ask("My name is Brindlo.");
  // So few tokens are read sooner than a file is: it takes another turn before there is something to keep.
  await first.ask("What can you do?");
  const readFirst = (await first.statusNumber("read")) + (await first.statusNumber("reused"));
  await first.close();

  const second = await open();
  await second.modelBecomes("ember", "ready");
  expect(await second.ask("What is my name?")).toContain("Brindlo");
  await second.until("what was read before the restart is reused", async () => {
    return (await second.statusNumber("reused")) >= readFirst;
  });
  const details = (await second.all("details")).at(-1);
  await details?.click();
  const text = await second.dialogText();
  const fromDisk = Number(
    /Reused from the disk\s+([\d,]+) token/u.exec(text)?.[1]?.replace(",", ""),
  );
  expect(fromDisk, text).toBeGreaterThanOrEqual(readFirst);
  expect(text).toMatch(/first token/iu);
  await second.picture("reply details after a restart");
});

scenario("a reply that is made again keeps the one before", async ({ open }) => {
  const window = await open();
  const first = await window.ask("Tell me a short story.");
  await (await window.find("regenerate")).click();
  await window.until("there are two versions", async () => {
    return ((await window.texts("versions"))[0] ?? "").includes("2 of 2");
  });
  await window.replyEnds(1);
  await (await window.find("previous-version")).click();
  // Both may say the same, so the words alone do not tell which one is shown.
  await window.until("the first one is shown", async () => {
    return ((await window.texts("versions"))[0] ?? "").includes("1 of 2");
  });
  expect(await window.lastReply()).toBe(first);
});

/** Asks until the window is full and the line is there. */
async function fillWindow(window: HearthWindow): Promise<void> {
  for (let turn = 1; (await window.all("divider")).length === 0; turn += 1) {
    if (turn > 12) throw new Error("the window is not full after 12 turns");
    await window.ask(`Question ${turn}: does the fire in the hearth still burn?`);
  }
}

scenario(
  "a full window shows its line, and what is pinned is still seen above it",
  async ({ data, open }) => {
    await data.useModelThatWrites("It burns, and it will burn all night.", 512);
    const first = await open();
    await first.modelBecomes("recital", "ready");
    await first.ask("Remember that the kettle is made of copper.");
    const [pin] = await first.all("pin-message");
    expect(await pin?.getAttribute("aria-label")).toBe("Pin message");
    await pin?.sendKeys(Key.ENTER);
    await first.until("the message is marked", async () => {
      return (await first.texts("pin-mark"))[0] === "Pinned";
    });
    expect(await pin?.getAttribute("aria-label")).toBe("Unpin message");
    await fillWindow(first);
    expect((await first.texts("divider"))[0]).toBe(
      "The model no longer sees anything above but what is pinned",
    );
    const marks = ["Pinned, the model still sees it"];
    expect(await first.texts("pin-mark")).toEqual(marks);
    await first.inPage(() => document.querySelector("[data-testid=pin-mark]")?.scrollIntoView());
    await first.picture("pinned message");
    await first.close();

    const second = await open();
    await second.find("pin-mark");
    expect(await second.texts("pin-mark")).toEqual(marks);
    const [unpin] = await second.all("pin-message");
    await unpin?.sendKeys(Key.ENTER);
    await second.until("the mark is gone", async () => (await second.all("pin-mark")).length === 0);
    expect((await second.texts("divider"))[0]).toBe("The model no longer sees anything above");
  },
);

scenario("what a message would take is told before it is sent", async ({ data, open }) => {
  await data.useModelThatWrites("So it is.");
  const window = await open();
  await window.modelBecomes("recital", "ready");
  // The rate at which this machine reads is known after a reply.
  await window.ask("a fire burns in the hearth. ".repeat(30).trim());
  await (await window.find("composer")).sendKeys("and the wood crackles. ".repeat(12));
  const note = await window.until("the cost is told", async () => {
    const text = await window.inPage(
      () => document.querySelector<HTMLElement>("#composer-note")?.innerText.trim() ?? "",
    );
    return text.includes("tokens in this message") && text;
  });
  expect(note).toMatch(/^\d+ tokens in this message · about [\d.]+ s to read \d+ tokens$/u);
  await window.picture("cost of a draft");
});

scenario("a private conversation that is deleted cannot be put back", async ({ open }) => {
  const window = await open();
  await window.modelBecomes("ember", "ready");
  await (await window.find("private-conversation")).click();
  await window.find("private");
  await window.ask("My name is Brindlo.");
  // The title says also that it is private.
  const title = await window.until("it is listed", async () => {
    return (await window.titles()).find((listed) => listed.endsWith("My name is Brindlo."));
  });
  await window.chooseFor(title, "delete");
  await window.titlesBecome([]);
  expect((await window.texts("toast"))[0]).toContain("gone for good");
  expect(await window.all("toast-action"), "no Undo is offered").toHaveLength(0);
});
