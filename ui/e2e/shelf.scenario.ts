import { readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { By, Key } from "selenium-webdriver";
import { expect } from "vitest";
import { scenario } from "./scenario";
import { type HearthWindow, inTerminal } from "./window";

async function openModels(window: HearthWindow): Promise<void> {
  await (await window.find("picker")).click();
  await (await window.find("browse-models")).click();
  await window.find("available-model");
}

async function openSettings(window: HearthWindow, model: string): Promise<void> {
  await openModels(window);
  const row = await window.find("installed-model", `[data-model-id="${model}"]`);
  await row.findElement(By.css(`[data-testid="open-model-settings"]`)).click();
  await window.find("model-maxTokens");
}

scenario(
  "the settings of a model hold for its replies and after a restart",
  async ({ data, open }) => {
    const window = await open();
    await window.modelBecomes("ember", "ready");
    const whole = await window.ask("What can you do?");
    await openSettings(window, "ember");
    await (await window.find("model-maxTokens")).sendKeys("4");
    await (await window.find("model-temperature")).sendKeys("0");
    await (await window.find("model-system")).sendKeys("You are a lighthouse.");
    await window.picture("model settings");
    await (await window.find("save-model-settings")).click();
    await window.until("the dialog is closed", async () => {
      return (await window.texts("model-maxTokens")).length === 0;
    });
    await window.press(Key.ESCAPE);
    await window.close();

    const again = await open();
    await again.modelBecomes("ember", "ready");
    const cut = await again.ask("What can you do?");
    expect(cut.length, "four tokens are all that it may say").toBeLessThan(whole.length);
    await openSettings(again, "ember");
    expect(await (await again.find("model-maxTokens")).getAttribute("value")).toBe("4");
    expect(await (await again.find("model-system")).getAttribute("value")).toBe(
      "You are a lighthouse.",
    );
    await again.close();
    const kept: unknown = JSON.parse(await inTerminal(data, "models", "show", "ember", "--json"));
    expect(kept).toMatchObject({ settings: { max_tokens: { chosen: 4 } } });
    const conversations = join(data.path, "all.json");
    await inTerminal(data, "conversations", "export", "--all", "--json", "--output", conversations);
    const replies = (await readFile(conversations, "utf8")).replaceAll(/[\\\s]/gu, "");
    expect(replies, "the reply keeps what it was made with").toContain('"maxTokens":4');
    expect(replies).toContain("Youarealighthouse.");
  },
);

scenario("models that were moved are used where they are", async ({ data, open }) => {
  await data.addModel("second");
  const disk = join(data.base, "disk");
  await inTerminal(data, "models", "move", join(disk, "models"));
  const window = await open();
  await window.select("second");
  await window.modelBecomes("second", "ready");
  expect(await window.ask("What can you do?")).not.toBe("");
  await openModels(window);
  await window.until("the folder is the new one", async () => {
    return ((await window.texts("disk-use"))[0] ?? "").includes(join(disk, "models"));
  });
  await window.picture("models moved");
  await window.close();

  await rename(disk, join(data.base, "unplugged"));
  const without = await open();
  await without.modelBecomes("ember", "ready");
  expect(await without.ask("What can you do?"), "the built-in model answers").not.toBe("");
  await openModels(without);
  await without.find("library-away");
  await without.picture("models away");
  await rename(join(data.base, "unplugged"), disk);
  await (await without.find("look-again")).click();
  await without.find("installed-model", `[data-model-id="second"]`);
});
