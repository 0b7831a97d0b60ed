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
  const written = moments
    .filter(({ status }) => status === "generating")
    .map(({ text }) => text.length);
  const final = moments.at(-1);
  expect(final?.status).not.toBe("generating");
  const partial = written.filter((length) => length > 0 && length < (final?.text.length ?? 0));
  expect(partial, "the reply must be seen while it is incomplete").not.toHaveLength(0);
  await window.picture("finished reply");
});

scenario("stopping keeps what was written and offers to continue", async ({ open }) => {
  const window = await open();
  await window.modelBecomes("ember", "ready");
  const whole = await window.ask("What can you do?");
  await recordReplies(window.driver, 10);
  const stopped = await window.ask("What can you do?");
  expect(stopped).toContain("Stopped");
  const kept = stopped.split("Stopped")[0] ?? "";
  expect(kept.trim().length).toBeGreaterThan(0);
  expect(kept.length).toBeLessThan(whole.length);
  await window.picture("stopped reply");

  await (await window.find("continue")).click();
  await window.until("the reply goes on", async () => {
    const text = await window.lastReply();
    return !text.includes("Stopped") && text.length > kept.trim().length;
  });
  expect(await window.all("reply"), "the same reply goes on, no other begins").toHaveLength(2);
  await window.picture("continued reply");
});

scenario("the second turn reads only what is new", async ({ open }) => {
  const window = await open();
  await window.ask("My name is Brindlo.");
  expect(await window.statusNumber("reused")).toBe(0);
  const readFirst = await window.statusNumber("read");
  await window.ask("What is my name?");
  expect(await window.statusNumber("reused")).toBeGreaterThanOrEqual(readFirst);
  await window.picture("second turn");
});

scenario("resetting the memory forgets what was told and leaves it readable", async ({ open }) => {
  const window = await open();
  await window.ask("My name is Brindlo.");
  expect(await window.ask("What is my name?")).toContain("Brindlo");

  await (await window.find("reset")).click();
  const divider = await window.find("divider");
  expect(await divider.getText()).toContain("Memory reset");
  expect((await window.texts("question"))[0]).toContain("Brindlo");
  await window.picture("memory reset");

  expect(await window.ask("What is my name?")).not.toContain("Brindlo");
  expect(await window.texts("question")).toHaveLength(3);
  await window.picture("after the reset");
});
