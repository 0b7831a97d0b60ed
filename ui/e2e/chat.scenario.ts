import { expect } from "vitest";
import { recordedMoments, recordReplies } from "./recorder";
import { scenario } from "./scenario";

scenario(
  "the first start shows the built-in model ready and something to say",
  async ({ open }) => {
    const window = await open();
    const suggestions = await window.until("three suggestions", async () => {
      const texts = await window.texts("suggestion");
      return texts.length === 3 && texts;
    });
    expect(suggestions.every((text) => text.trim().length > 0)).toBe(true);
    await window.modelBecomes("ember", "ready");
    expect(await (await window.find("picker")).getText()).toContain("Ember");
    expect(await window.all("error")).toHaveLength(0);
    expect(await window.all("notice")).toHaveLength(0);
    await window.picture("first start");
  },
);

scenario("a suggestion sends itself and is answered", async ({ open }) => {
  const window = await open();
  const suggestion = await window.find("suggestion");
  const text = await suggestion.getText();
  await suggestion.click();
  await window.replyEnds(1);
  const [question] = await window.texts("question");
  expect(question).toContain(text.trim());
  expect(await window.lastReply()).not.toBe("");
  await window.picture("answered suggestion");
});

scenario("text appears before the reply has ended", async ({ open }) => {
  const window = await open();
  await window.modelBecomes("ember", "ready");
  await recordReplies(window.driver);
  await window.ask("What can you do?");
  const moments = await recordedMoments(window.driver);
  const whole = await window.lastReply();
  expect(moments.at(-1)).toEqual({ isBusy: false, text: whole });
  const partial = moments.filter(
    ({ isBusy, text }) => isBusy && text && text.length < whole.length,
  );
  expect(partial, "the reply must be seen while it is incomplete").not.toHaveLength(0);
  await window.picture("finished reply");
});

scenario("stopping keeps what was written and offers to continue", async ({ open }) => {
  const window = await open();
  await window.modelBecomes("ember", "ready");
  const whole = await window.ask("What can you do?");
  await recordReplies(window.driver, 10);
  const kept = await window.ask("What can you do?");
  expect(await window.lastStatus()).toBe("cancelled");
  expect(await (await window.all("reply")).at(-1)?.getText()).toContain("Stopped");
  expect(kept).not.toBe("");
  expect(kept.length).toBeLessThan(whole.length);
  await window.picture("stopped reply");

  await (await window.find("continue")).click();
  await window.until("the reply goes on to its end", async () => {
    return (await window.lastStatus()) === "endOfTurn";
  });
  const continued = await window.lastReply();
  expect(continued.length).toBeGreaterThan(kept.length);
  expect(await window.all("reply"), "the same reply goes on, no other begins").toHaveLength(2);
  await window.picture("continued reply");
});

scenario("the second turn reads only what is new", async ({ open }) => {
  const window = await open();
  await window.ask("My name is Brindlo.");
  expect(await window.statusNumber("reused")).toBe(0);
  const readFirst = await window.statusNumber("read");
  await window.ask("What is my name?");
  await window.until(`at least ${readFirst} tokens are reused`, async () => {
    return (await window.statusNumber("reused")) >= readFirst;
  });
  await window.picture("second turn");
});

scenario("resetting the memory forgets what was told and leaves it readable", async ({ open }) => {
  const window = await open();
  await window.ask("My name is Brindlo.");
  expect(await window.ask("What is my name?")).toContain("Brindlo");

  await (await window.find("reset")).click();
  expect(await (await window.find("divider")).getText()).toContain("Memory reset");
  expect((await window.texts("question"))[0]).toContain("Brindlo");
  await window.picture("memory reset");

  expect(await window.ask("What is my name?")).not.toContain("Brindlo");
  expect(await window.texts("question")).toHaveLength(3);
  await window.picture("after the reset");
});
