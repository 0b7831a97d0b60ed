import { Key } from "selenium-webdriver";
import { expect } from "vitest";
import { recordedMoments, recordReplies } from "./recorder";
import { scenario } from "./scenario";
import type { HearthWindow } from "./window";

const paragraph = (number: number) =>
  `Paragraph ${number}. A fire wants three things: something that burns, air that comes and goes, and warmth ` +
  "enough to begin. Take one of them away and it ends. Give it all three and it keeps itself, " +
  "as long as somebody looks after it now and then.";

const paragraphs = (count: number) =>
  Array.from({ length: count }, (_, index) => paragraph(index + 1)).join("\n\n");

/** Some seconds of writing. */
const LONG = paragraphs(40);
/** Long enough that a window can be loaded again meanwhile. */
const LONGER = paragraphs(80);

async function writingHasBegun(window: HearthWindow): Promise<string> {
  return window.until("some of the reply is there, and not all of it", async () => {
    const [last] = (await window.all("reply")).slice(-1);
    const isBusy = (await last?.getAttribute("aria-busy")) === "true";
    const text = await window.lastReply();
    return isBusy && text !== "" && text;
  });
}

scenario("text appears before the reply has ended", async ({ data, open }) => {
  await data.useModelThatWrites(LONG);
  const window = await open();
  await window.modelBecomes("recital", "ready");
  await recordReplies(window.driver);
  await window.send("Write.");
  await writingHasBegun(window);
  const glow = await window.inPage(() => {
    const last = document.querySelector(".markdown")?.lastElementChild;
    return last ? getComputedStyle(last, "::after").width : "";
  });
  expect(glow, "the ember glows behind the last word").toBe("8px");
  await window.picture("streaming reply");
  await window.replyEnds(1);
  const moments = await recordedMoments(window.driver);
  expect(await window.lastReply()).toBe(LONG);
  expect(moments.at(-1)).toEqual({ isBusy: false, text: LONG });
  const partial = moments.filter(({ isBusy, text }) => isBusy && text && text.length < LONG.length);
  expect(partial.length, "the reply is seen more than once while it grows").toBeGreaterThan(1);
  for (const { text } of partial) expect(LONG.startsWith(text)).toBe(true);
});

scenario("stopping keeps what was written and offers to continue", async ({ data, open }) => {
  await data.useModelThatWrites(LONG);
  const window = await open();
  await window.modelBecomes("recital", "ready");
  await window.send("Write.");
  await writingHasBegun(window);
  await (await window.find("stop")).click();
  await window.replyEnds(1);
  const kept = await window.lastReply();
  expect(await window.lastStatus()).toBe("cancelled");
  expect((await window.texts("reply"))[0]).toContain("Stopped");
  expect(kept).not.toBe("");
  expect(kept.length).toBeLessThan(LONG.length);
  expect(LONG.startsWith(kept)).toBe(true);
  await window.picture("stopped reply");

  await (await window.find("continue")).click();
  await window.until("the reply goes on to its end", async () => {
    return (await window.lastStatus()) === "endOfTurn";
  });
  expect(await window.lastReply(), "it goes on at the very place").toBe(LONG);
  expect(await window.all("reply"), "the same reply goes on, no other begins").toHaveLength(1);
  await window.picture("continued reply");
});

scenario("Escape stops a reply and nothing that was typed is lost", async ({ data, open }) => {
  await data.useModelThatWrites(LONG);
  const window = await open();
  await window.modelBecomes("recital", "ready");
  await window.send("Write.");
  await writingHasBegun(window);
  const composer = await window.find("composer");
  await composer.sendKeys("the next thought", Key.ESCAPE);
  await window.replyEnds(1);
  expect(await window.lastStatus()).toBe("cancelled");
  expect(await composer.getAttribute("value")).toBe("the next thought");
});

scenario("a window that is loaded again shows the reply under way", async ({ data, open }) => {
  await data.useModelThatWrites(LONGER);
  const window = await open();
  await window.modelBecomes("recital", "ready");
  await window.send("Write.");
  const before = await writingHasBegun(window);
  await window.driver.navigate().refresh();
  await window.find("composer");
  const after = await writingHasBegun(window);
  expect(after.startsWith(before), "it is the same reply, further on").toBe(true);
  expect(LONGER.startsWith(after)).toBe(true);
  await window.replyEnds(1);
  expect(await window.lastReply()).toBe(LONGER);
  expect(await window.texts("question")).toEqual(["Write."]);
});
