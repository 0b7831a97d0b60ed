import { Key } from "selenium-webdriver";
import { expect } from "vitest";
import { conversation, importConversations } from "./conversationFile";
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
    [
      ...document.querySelectorAll(
        "dialog, [data-testid]:not([data-testid='message-list'] *, dialog *)",
      ),
    ]
      .map((element) => ({ element, box: element.getBoundingClientRect() }))
      .filter(({ box }) => box.left < 0 || box.right > innerWidth || box.bottom > innerHeight)
      .map(({ element }) => element.getAttribute("data-testid")),
  );
  expect(outside).toEqual([]);
  const sideways = await window.inPage(() =>
    [...document.querySelectorAll("body, dialog, [data-testid='message-list']")].some(
      (element) => element.scrollWidth > element.clientWidth,
    ),
  );
  expect(sideways, "nothing has to be scrolled sideways").toBe(false);
}

/** Whether a dialog is open whose last control can be brought into it. */
async function scrollsInside(window: HearthWindow): Promise<boolean> {
  return window.inPage(() => {
    const dialog = document.querySelector("dialog[open]");
    const last = [...(dialog?.querySelectorAll("button, input") ?? [])].at(-1);
    last?.scrollIntoView({ block: "nearest" });
    const [inner, outer] = [last?.getBoundingClientRect(), dialog?.getBoundingClientRect()];
    return !!inner && !!outer && inner.top >= outer.top && inner.bottom <= outer.bottom;
  });
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
  await window.press(Key.ESCAPE);
  await window.command(",");
  await window.find("kept-memory");
  await nothingIsCut(window);
  await window.picture("narrow settings");
  expect(await scrollsInside(window), "the rest is reached by scrolling the dialog").toBe(true);
});

scenario("a conversation beside the list of the others", async ({ data, open }) => {
  const hour = 3_600_000;
  const titles = [
    "Bread without an oven",
    "Why does a fire crackle?",
    "Letter to the landlord about the heating",
    "A name for a grey cat",
    "Three days in Ghent",
    "Line by line in Rust",
    "Which mushrooms grow under birches",
    "How a hearth is built",
    "Questions for the piano teacher",
  ];
  await importConversations(
    data,
    titles.map((title, index) => {
      return conversation(index + 1, title, 2, Date.now() - (index + 1) ** 2 * 5 * hour);
    }),
  );
  const window = await open();
  await window.modelBecomes("ember", "ready");
  await window.ask("Write a table of fruits and their colours.");
  await window.ask("Show hello world in Rust.");
  await window.until("it is listed with the others", async () => {
    return (await window.titles()).length === titles.length + 1;
  });
  await nothingIsCut(window);
  // The README shows this one.
  await window.picture("readme");
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
  await dark.press(Key.ESCAPE);
  await (await dark.find("pin-message")).sendKeys(Key.ENTER);
  await dark.find("pin-mark");
  await dark.picture("dark pinned message");
  await dark.command(",");
  await dark.find("kept-memory");
  await dark.picture("dark settings");
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
