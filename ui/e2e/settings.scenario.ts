import { Key } from "selenium-webdriver";
import { expect } from "vitest";
import { scenario } from "./scenario";
import type { HearthWindow } from "./window";

async function openSettings(window: HearthWindow): Promise<string> {
  await window.command(",");
  return window.textOf(await window.find("kept-memory"));
}

/** What is kept, as soon as something is: it is saved when nobody waits for the model. */
async function somethingIsKept(window: HearthWindow): Promise<string> {
  return window.until("something of the conversation is kept", async () => {
    const kept = await openSettings(window);
    if (!kept.startsWith("0 bytes")) return kept;
    await window.closeDialog();
    return false;
  });
}

scenario("the settings say what the memory takes, and free it", async ({ open }) => {
  const window = await open();
  await window.ask("My name is Brindlo.");
  expect(await somethingIsKept(window)).toMatch(/^[\d.]+ \wB of [\d.]+ \wB used$/u);
  await window.picture("settings");
  await (await window.find("free-memory")).click();
  await window.until("it says how much was freed", async () => {
    return /\d \wB were freed/u.test((await window.texts("freed-memory"))[0] ?? "");
  });
  expect((await window.texts("kept-memory"))[0]).toMatch(/^0 bytes of/u);
  await window.picture("settings after freeing");
  await window.closeDialog();
  expect(await window.ask("What is my name?"), "nothing that was said is lost").toContain(
    "Brindlo",
  );
});

scenario("another budget of the memory is kept, and More opens the settings", async ({ open }) => {
  const first = await open();
  await first.modelBecomes("ember", "ready");
  await (await first.find("menu")).click();
  await (await first.find("settings")).click();
  await first.find("kept-memory");
  const field = await first.find("memory-budget");
  await field.clear();
  await field.sendKeys("1.25");
  await (await first.find("save-budget")).click();
  await first.until("the budget holds", async () => {
    return ((await first.texts("kept-memory"))[0] ?? "").includes("of 1.3 GB used");
  });
  await first.press(Key.ESCAPE);
  await first.close();

  const second = await open();
  await openSettings(second);
  expect(await (await second.find("memory-budget")).getAttribute("value")).toBe("1.25");
});
