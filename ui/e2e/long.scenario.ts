import { By, Key } from "selenium-webdriver";
import { expect } from "vitest";
import { conversation, importConversations, messageId } from "./conversationFile";
import { scenario } from "./scenario";
import type { HearthWindow } from "./window";

// Bounds for any machine that runs these, also a busy one with a debug build. What a quiet one takes is printed.
const OPEN_WITHIN = 1500;
const KEY_WITHIN = 1000;
const READ_ON_WITHIN = 2500;
const START_WITHIN = 10_000;

function tell(what: string, milliseconds: number): void {
  console.log(`${what}: ${Math.round(milliseconds)} ms`);
}

/** Presses the row of a conversation; milliseconds until its last message was drawn. */
async function timeToOpen(window: HearthWindow, id: string, last: string): Promise<number> {
  return window.driver.executeAsyncScript(
    (id: string, last: string, done: (milliseconds: number) => void) => {
      const began = performance.now();
      document.querySelector<HTMLElement>(`[data-conversation="${id}"]`)?.click();
      const look = () => {
        if (document.querySelector(`[data-entry="${last}"]`) === null) requestAnimationFrame(look);
        // The next frame begins when this one was drawn.
        else requestAnimationFrame(() => done(performance.now() - began));
      };
      requestAnimationFrame(look);
    },
    id,
    last,
  );
}

/** Scrolls up until nothing is left to read; milliseconds of the slowest part. */
async function readAll(window: HearthWindow): Promise<number> {
  return window.driver.executeAsyncScript((done: (milliseconds: number) => void) => {
    const list = document.querySelector<HTMLElement>('[data-testid="message-list"]');
    const count = () => document.querySelectorAll("[data-entry]").length;
    let slowest = 0;
    const up = () => {
      if (!list || document.querySelector('[data-testid="load-earlier"]') === null) {
        done(slowest);
        return;
      }
      const [before, began] = [count(), performance.now()];
      list.dispatchEvent(new WheelEvent("wheel", { deltaY: -1 }));
      list.scrollTop = 0;
      const look = () => {
        if (count() === before) {
          requestAnimationFrame(look);
          return;
        }
        requestAnimationFrame(() => {
          slowest = Math.max(slowest, performance.now() - began);
          up();
        });
      };
      requestAnimationFrame(look);
    };
    up();
  });
}

/** Types into the composer; milliseconds from each key to the frame that shows it. */
async function timesOfKeys(window: HearthWindow, text: string): Promise<number[]> {
  await window.inPage(() => {
    const times: number[] = [];
    Object.assign(window, { timesOfKeys: times });
    document.querySelector('[data-testid="composer"]')?.addEventListener("keydown", () => {
      const began = performance.now();
      requestAnimationFrame(() =>
        requestAnimationFrame(() => times.push(performance.now() - began)),
      );
    });
  });
  await (await window.find("composer")).sendKeys(text);
  return window.until("all keys were shown", async () => {
    const times = await window.inPage(
      () => (window as unknown as { timesOfKeys: number[] }).timesOfKeys,
    );
    return times.length >= text.length && times;
  });
}

scenario(
  "a conversation of 2,000 messages opens at once and stays quick",
  async ({ data, open }) => {
    const messages = 2000;
    await importConversations(data, [
      conversation(1, "A long evening", messages),
      conversation(2, "A short one", 2),
    ]);
    const window = await open();
    await window.modelBecomes("ember", "ready");
    await window.titlesBecome(["A short one", "A long evening"]);
    await window.driver.manage().setTimeouts({ script: 100_000 });
    const last = messageId(1, messages);
    const times: number[] = [];
    for (let round = 0; round < 3; round += 1) {
      await window.openConversation("A short one");
      times.push(await timeToOpen(window, messageId(1, 0), last));
    }
    for (const time of times) tell("a conversation of 2,000 messages opens in", time);
    expect(Math.min(...times)).toBeLessThan(OPEN_WITHIN);
    await window.picture("long conversation");

    const slowest = await readAll(window);
    tell("the slowest part on the way up to its first message takes", slowest);
    expect(slowest).toBeLessThan(READ_ON_WITHIN);
    const entries = await window.inPage(() => document.querySelectorAll("[data-entry]").length);
    expect(entries, "all of it is there").toBe(messages);

    const keys = (await timesOfKeys(window, "quick as before")).sort((one, other) => one - other);
    const median = keys[Math.floor(keys.length / 2)] ?? 0;
    tell("with all of it in the list a key is shown in", median);
    expect(median).toBeLessThan(KEY_WITHIN);
  },
);

scenario("a message far up in a long conversation is found and shown", async ({ data, open }) => {
  await importConversations(data, [
    conversation(1, "A long evening", 2000),
    conversation(2, "A short one", 2),
  ]);
  const window = await open();
  await window.shiftCommand("f");
  await (await window.find("search")).sendKeys("Question 17 of A long evening");
  await window.find("search-hit");
  await window.press(Key.ENTER);
  const found = By.css(`[data-entry="${messageId(1, 33)}"]`);
  await window.until("the message is in the middle of the list", async () => {
    const [entry] = await window.driver.findElements(found);
    if (!entry) return false;
    return window.driver.executeScript<boolean>((element: HTMLElement) => {
      const { top, bottom } = element.getBoundingClientRect();
      return top > 0 && bottom < innerHeight;
    }, entry);
  });
});

scenario("thousands of conversations are listed and scrolled at once", async ({ data, open }) => {
  const count = 2000;
  await importConversations(
    data,
    Array.from({ length: count }, (_, number) =>
      conversation(number + 1, `Evening ${number + 1}`, 2),
    ),
  );
  const began = performance.now();
  const window = await open();
  await window.until("the newest is listed", async () => {
    return (await window.titles())[0] === `Evening ${count}`;
  });
  const started = performance.now() - began;
  tell(`a window with ${count} conversations starts in`, started);
  expect(started).toBeLessThan(START_WITHIN);
  const rows = (await window.all("conversation")).length;
  expect(rows, "only what is seen has elements").toBeLessThan(120);
  const list = await window.driver.findElement(By.css('[data-testid="conversations"]'));
  await window.until("the oldest is reached", async () => {
    await window.driver.executeScript(
      (element: HTMLElement) => element.scrollTo(0, element.scrollHeight),
      list,
    );
    return (await window.titles()).includes("Evening 1");
  });
  expect((await window.all("conversation")).length).toBeLessThan(120);
  await window.picture("thousands of conversations");
});
