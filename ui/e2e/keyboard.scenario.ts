import { Key } from "selenium-webdriver";
import { expect } from "vitest";
import { scenario } from "./scenario";

scenario("Shift+Enter breaks the line and Enter sends both lines", async ({ open }) => {
  const window = await open();
  await window.modelBecomes("ember", "ready");
  const composer = await window.find("composer");
  await composer.sendKeys("My name is Brindlo.", Key.chord(Key.SHIFT, Key.ENTER));
  await composer.sendKeys("What is my name?");
  expect(await composer.getAttribute("value")).toBe("My name is Brindlo.\nWhat is my name?");
  expect(await window.all("question"), "nothing was sent yet").toHaveLength(0);
  await window.picture("typed two lines");
  await composer.sendKeys(Key.ENTER);
  await window.replyEnds(1);
  expect(await window.texts("question")).toEqual(["My name is Brindlo.\nWhat is my name?"]);
  expect(await composer.getAttribute("value")).toBe("");
});

scenario("a model is chosen by the keyboard alone", async ({ data, open }) => {
  await data.useModelThatWrites("This is the other model.");
  const window = await open();
  await window.modelBecomes("recital", "ready");
  await window.command("k");
  await window.find("picker-option");
  await window.press("emb");
  await window.until("the list is filtered", async () => {
    return (await window.all("picker-option")).length === 1;
  });
  await window.press(Key.ENTER);
  await window.modelBecomes("ember", "ready");

  await window.command("k");
  await window.find("picker-option");
  await window.press(Key.ARROW_DOWN, Key.ENTER);
  await window.modelBecomes("recital", "ready");
  expect(await window.ask("Who are you?"), "the focus is back where one types").toBe(
    "This is the other model.",
  );
});
