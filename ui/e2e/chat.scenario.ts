import { expect } from "vitest";
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
    expect(await window.texts("picker")).toEqual(["Ember"]);
    expect(await window.all("error")).toHaveLength(0);
    expect(await window.all("notice")).toHaveLength(0);
    await window.picture("first start");
  },
);

scenario("a suggestion sends itself and is answered", async ({ open }) => {
  const window = await open();
  const suggestion = await window.find("suggestion");
  const text = await window.textOf(suggestion);
  await suggestion.click();
  await window.replyEnds(1);
  const [question] = await window.texts("question");
  expect(question).toContain(text);
  expect(await window.lastReply()).not.toBe("");
  await window.picture("answered suggestion");
});

scenario("every suggestion is something that the model can do", async ({ open }) => {
  const window = await open();
  await window.modelBecomes("ember", "ready");
  const suggestions = await window.texts("suggestion");
  for (const suggestion of suggestions) {
    expect(await window.ask(suggestion), suggestion).not.toMatch(
      /more than I can do|rather not guess|too hard|not sure I/u,
    );
  }
  expect((await window.replies()).at(-1), "the last one asks for code").toContain("Hello, world!");
  await window.picture("answered suggestions");
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
  await window.find("divider");
  expect((await window.texts("divider"))[0]).toContain("Memory reset");
  expect((await window.texts("question"))[0]).toContain("Brindlo");
  await window.picture("memory reset");

  expect(await window.ask("What is my name?")).not.toContain("Brindlo");
  expect(await window.texts("question")).toHaveLength(3);
  await window.picture("after the reset");
});
