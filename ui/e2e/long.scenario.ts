import { By, Key } from "selenium-webdriver";
import { expect } from "vitest";
import { conversation, importConversations, makeLongHistory, messageId } from "./conversationFile";
import { DataFolder } from "./dataFolder";
import { scenario } from "./scenario";
import { HearthWindow } from "./window";

// Bounds for any machine that runs these, also a busy one with a debug build. What a quiet one takes is printed.
const OPEN_WITHIN = 1500;
const KEY_WITHIN = 1000;
const READ_ON_WITHIN = 2500;
const START_BEYOND_EMPTY_WITHIN = 2_500;
const SEARCH_WITHIN = 1500;

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

/** Scrolls up until its first message is there; milliseconds of the slowest part. */
async function readAll(window: HearthWindow, first: string): Promise<number> {
  return window.driver.executeAsyncScript((first: string, done: (milliseconds: number) => void) => {
    const list = document.querySelector<HTMLElement>('[data-testid="message-list"]');
    const count = () => document.querySelectorAll("[data-entry]").length;
    let slowest = 0;
    const up = () => {
      if (!list || document.querySelector(`[data-entry="${first}"]`) !== null) {
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
  }, first);
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

/** Lets the system compile what it draws conversations with, which it does once for all data folders. */
async function drawOneElsewhere(): Promise<void> {
  const elsewhere = await DataFolder.create();
  await importConversations(elsewhere, [
    conversation(1, "A long evening", 40),
    conversation(2, "A short one", 2),
  ]);
  const window = await HearthWindow.open(elsewhere);
  try {
    await window.openConversation("A short one");
    await timeToOpen(window, messageId(1, 0), messageId(1, 40));
  } finally {
    await window.close();
    await elsewhere.remove();
  }
}

scenario(
  "a conversation of 2,000 messages opens at once and stays quick",
  async ({ data, open }) => {
    await drawOneElsewhere();
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
    // The first one too: it finds no page, no count and no part of the file in memory.
    for (const time of times) {
      tell("a conversation of 2,000 messages opens in", time);
      expect(time).toBeLessThan(OPEN_WITHIN);
    }
    await window.picture("long conversation");

    const slowest = await readAll(window, messageId(1, 1));
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

/** Milliseconds from the start of a window to the list of its conversations, which has `rows` at least. */
async function timeToStart(
  open: () => Promise<HearthWindow>,
  rows: number,
): Promise<[number, HearthWindow]> {
  const began = performance.now();
  const window = await open();
  await window.until("the list is there", async () => {
    return (await window.all("conversation")).length >= rows;
  });
  return [performance.now() - began, window];
}

/** Types into the field of the search; milliseconds until hits for these words were drawn. */
async function timeToSearch(window: HearthWindow, words: string): Promise<number> {
  return window.driver.executeAsyncScript((words: string, done: (milliseconds: number) => void) => {
    const field = document.querySelector<HTMLInputElement>('[data-testid="search"]');
    if (field === null) throw new Error("the field is not there");
    const began = performance.now();
    field.value = words;
    field.dispatchEvent(new Event("input", { bubbles: true }));
    const look = () => {
      const hit = document.querySelector('[data-testid="search-hit"]');
      if (hit?.querySelector("mark")?.textContent !== words) requestAnimationFrame(look);
      else requestAnimationFrame(() => done(performance.now() - began));
    };
    requestAnimationFrame(look);
  }, words);
}

scenario(
  "with 10,000 conversations the window starts, searches and opens as at once",
  async ({ data, open }) => {
    const [empty, before] = await timeToStart(open, 0);
    await before.close();
    const made = await makeLongHistory(data, 10_000);
    const [started, copying] = await timeToStart(open, 10);
    await copying.close();
    // The driver ends a window without a word: the next start looks through the whole file.
    const [checked, window] = await timeToStart(open, 10);
    tell("a window without conversations starts in", empty);
    tell("a window with 10,000 conversations and more than 200,000 messages starts in", started);
    tell("the same after a run that was cut off, with all of them checked, in", checked);
    expect(started - empty).toBeLessThan(START_BEYOND_EMPTY_WITHIN);
    const rows = (await window.all("conversation")).length;
    expect(rows, "only what is seen has elements").toBeLessThan(120);

    await window.driver.manage().setTimeouts({ script: 100_000 });
    const times: number[] = [];
    for (let round = 0; round < 3; round += 1) {
      times.push(await timeToOpen(window, made.long, made.last));
      const short = await timeToOpen(window, made.short, made.shortLast);
      tell("opening a conversation of 20 messages takes", short);
    }
    for (const time of times) tell("opening one of 2,000 takes", time);
    expect(Math.min(...times)).toBeLessThan(OPEN_WITHIN);

    await window.shiftCommand("f");
    await window.find("search");
    const taken = await timeToSearch(window, "zanzibarium");
    tell("a search shows its hits after", taken);
    expect(taken).toBeLessThan(SEARCH_WITHIN);
    await window.picture("search in a long history");
    await window.press(Key.ESCAPE);
    await window.until("the list is there again", async () => {
      return (await window.all("conversation")).length > 0;
    });
    const list = await window.driver.findElement(By.css('[data-testid="conversations"]'));
    const reached = async () =>
      window.inPage(() => {
        const list = document.querySelector('[data-testid="conversations"]');
        return (list?.scrollHeight ?? 0) > 1_000 * 32;
      });
    await window.until("page after page comes", async () => {
      await window.driver.executeScript(
        (element: HTMLElement) => element.scrollTo(0, element.scrollHeight),
        list,
      );
      return reached();
    });
    expect((await window.all("conversation")).length).toBeLessThan(120);
    await window.picture("thousands of conversations");
  },
  600_000,
);
