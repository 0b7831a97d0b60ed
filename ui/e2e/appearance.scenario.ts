import { Key } from "selenium-webdriver";
import { expect } from "vitest";
import { scenario } from "./scenario";
import type { HearthWindow } from "./window";

const NARROW = { width: 480, height: 480 };
const DARK_BACKGROUND = "rgb(23, 20, 18)";
const LIGHT_BACKGROUND = "rgb(251, 249, 246)";

const background = (window: HearthWindow) =>
  window.inPage(() => getComputedStyle(document.body).backgroundColor);

/** Everything that a user needs lies inside the window. */
async function nothingIsCut(window: HearthWindow): Promise<void> {
  const outside = await window.inPage(() =>
    [...document.querySelectorAll("[data-testid]:not([data-testid='message-list'] *)")]
      .map((element) => ({ element, box: element.getBoundingClientRect() }))
      .filter(({ box }) => box.left < 0 || box.right > innerWidth || box.bottom > innerHeight)
      .map(({ element }) => element.getAttribute("data-testid")),
  );
  expect(outside).toEqual([]);
  const sideways = await window.inPage(() =>
    [...document.querySelectorAll("body, [data-testid='message-list']")].some(
      (element) => element.scrollWidth > element.clientWidth,
    ),
  );
  expect(sideways, "nothing has to be scrolled sideways").toBe(false);
}

scenario("the smallest window shows all of it", async ({ open }) => {
  const window = await open();
  await window.modelBecomes("ember", "ready");
  await window.driver.manage().window().setRect(NARROW);
  await window.until("the window is small", async () =>
    window.inPage(() => innerWidth <= 480 && innerHeight <= 480),
  );
  await nothingIsCut(window);
  await window.picture("narrow first start");
  await window.ask("What can you do?");
  await nothingIsCut(window);
  await window.picture("narrow conversation");
  await window.option("ember");
  await nothingIsCut(window);
  await window.picture("narrow picker");
});

scenario("the window is light or dark as the system is", async ({ data, open }) => {
  const light = await open();
  expect(await background(light)).toBe(LIGHT_BACKGROUND);
  await light.close();

  await data.useModelThatWrites(
    "| a | b |\n| --- | --- |\n| 1 | 2 |\n\n```rust\nfn main() {}\n```",
  );
  const dark = await open({ environment: { GTK_THEME: "Adwaita:dark" } });
  expect(await background(dark)).toBe(DARK_BACKGROUND);
  await dark.ask("Write a table and some code.");
  await dark.picture("dark conversation");
  await dark.option("ember");
  await dark.picture("dark picker");
});

scenario("what runs is told by About Hearth", async ({ data, open }) => {
  const window = await open();
  await window.modelBecomes("ember", "ready");
  await (await window.find("menu")).click();
  await window.picture("menu");
  await (await window.find("about")).click();
  await window.until("the dialog names the data folder", async () =>
    window.inPage(() => document.querySelector("dialog[open]") !== null),
  );
  const text = await window.inPage(
    () => document.querySelector<HTMLElement>("dialog[open]")?.innerText ?? "",
  );
  expect(text).toContain(data.path);
  expect(text).toMatch(/\d+\.\d+\.\d+/u);
  await window.picture("about");
  await window.press(Key.ESCAPE);
});
