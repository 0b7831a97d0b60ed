import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import {
  Builder,
  By,
  Capabilities,
  Key,
  type WebDriver,
  type WebElement,
} from "selenium-webdriver";
import type { DataFolder } from "./dataFolder";
import { required, WebDriverServer } from "./webDriver";

/** Loading the built-in model takes about a second; a busy machine may need many times that. */
const PATIENCE = 30_000;
const POLL = 25;

/** The names of `data-testid` in the interface. */
export type Hook =
  | "composer"
  | "send"
  | "stop"
  | "reset"
  | "picker"
  | "picker-option"
  | "message-list"
  | "question"
  | "reply"
  | "divider"
  | "status"
  | "notice"
  | "error"
  | "suggestion"
  | "continue"
  | "retry"
  | "copy"
  | "details"
  | "menu"
  | "about"
  | "link-dialog"
  | "title"
  | "sidebar"
  | "show-sidebar"
  | "hide-sidebar"
  | "new-conversation"
  | "private-conversation"
  | "private"
  | "search"
  | "search-hit"
  | "conversation"
  | "conversation-menu"
  | "rename"
  | "rename-title"
  | "pin"
  | "duplicate"
  | "export-markdown"
  | "export-json"
  | "export-all"
  | "import"
  | "delete"
  | "toast"
  | "toast-action"
  | "edit"
  | "edit-field"
  | "versions"
  | "previous-version"
  | "next-version"
  | "undo-reset"
  | "context"
  | "open-system-prompt"
  | "system-prompt"
  | "save-system-prompt"
  | "regenerate"
  | "load-earlier"
  | "pin-message"
  | "pin-mark"
  | "settings"
  | "settings-dialog"
  | "kept-memory"
  | "free-memory"
  | "freed-memory"
  | "memory-budget"
  | "save-budget"
  | "browse-models"
  | "models-view"
  | "find-field"
  | "repository-hit"
  | "repository"
  | "variant"
  | "available-model"
  | "installed-model"
  | "removed-model"
  | "download"
  | "download-model"
  | "pause-download"
  | "resume-download"
  | "use-model"
  | "remove-model"
  | "restore-model"
  | "other-source"
  | "accept-source"
  | "open-model-settings"
  | "model-system"
  | "model-temperature"
  | "model-maxTokens"
  | "save-model-settings"
  | "disk-use"
  | "library-away"
  | "look-again"
  | "enter-token"
  | "token"
  | "token-state"
  | "save-token"
  | "token-for-this-run"
  | "remove-token"
  | "open-network"
  | "requests";

export type Options = {
  /** Environment of the window, on top of what isolates it. */
  environment?: Record<string, string>;
};

/** A running window of Hearth. */
export class HearthWindow {
  private open = true;

  private constructor(
    readonly driver: WebDriver,
    private readonly server: WebDriverServer,
  ) {}

  /** Starts the window on a data folder and waits until it can be typed into. */
  static async open(data: DataFolder, options: Options = {}): Promise<HearthWindow> {
    const environment = {
      ...(await isolated(data)),
      // Tauri lets its web view be driven only where this is set.
      TAURI_WEBVIEW_AUTOMATION: "true",
      ...options.environment,
    };
    const server = await WebDriverServer.start(environment, join(data.base, "log.txt"));
    try {
      const driver = await new Builder()
        .usingServer(server.url)
        .withCapabilities(capabilities(required("HEARTH_WINDOW")))
        .build();
      const window = new HearthWindow(driver, server);
      await window.find("composer");
      return window;
    } catch (error) {
      const printed = await server.printed();
      await server.stop();
      throw new Error(`the window did not come up; it printed:\n${printed}`, { cause: error });
    }
  }

  get isOpen(): boolean {
    return this.open;
  }

  /** Ends the window as the window system does; nothing may depend on a longer farewell. */
  async close(): Promise<void> {
    if (!this.open) return;
    this.open = false;
    try {
      await this.driver.quit();
    } finally {
      await this.server.stop();
    }
  }

  /** Ends the window as the system does where the user logs out. */
  async logOut(): Promise<void> {
    this.open = false;
    await this.server.endTheWindowByAsking();
  }

  /** Ends the window in the middle of whatever it does. */
  async kill(): Promise<void> {
    this.open = false;
    await this.server.kill();
  }

  /** The first element with this hook, as soon as it is there. */
  async find(hook: Hook, attributes = ""): Promise<WebElement> {
    return this.until(`\`${hook}${attributes}\` is shown`, async () => {
      const [element] = await this.all(hook, attributes);
      return element;
    });
  }

  /** All elements with this hook that are there now. */
  async all(hook: Hook, attributes = ""): Promise<WebElement[]> {
    return this.driver.findElements(By.css(`[data-testid="${hook}"]${attributes}`));
  }

  /** The text of every element with this hook. */
  async texts(hook: Hook): Promise<string[]> {
    const elements = await this.all(hook);
    return Promise.all(elements.map((element) => this.textOf(element)));
  }

  /**
   * The text of an element as it is laid out; nothing where it cannot be seen. The driver's own way loses
   * line breaks in this web view, and the whole text of an element that begins to appear.
   */
  async textOf(element: WebElement): Promise<string> {
    return this.driver.executeScript(
      (shown: HTMLElement) => (shown.checkVisibility() ? shown.innerText.trim() : ""),
      element,
    );
  }

  /** Waits until `condition` gives something other than nothing or false, and returns that. */
  async until<T>(what: string, condition: () => Promise<T | undefined | false>): Promise<T> {
    const look = async () => {
      try {
        return await condition();
      } catch (error) {
        // The interface may replace an element between finding and reading it.
        if (error instanceof Error && error.name === "StaleElementReferenceError") return false;
        throw error;
      }
    };
    try {
      return (await this.driver.wait(look, PATIENCE, what, POLL)) as T;
    } catch (cause) {
      if (!(cause instanceof Error) || cause.name !== "TimeoutError") throw cause;
      // The driver's own error is made by its clock, and does not tell which step of the scenario waited.
      throw new Error(`waited in vain for: ${what}`, { cause });
    }
  }

  /** Types a message and sends it by the Enter key. */
  async send(text: string): Promise<void> {
    const composer = await this.find("composer");
    await composer.sendKeys(text, Key.ENTER);
  }

  /** Sends a message and waits for the end of its reply; returns the reply's text. */
  async ask(text: string): Promise<string> {
    const before = (await this.all("reply")).length;
    await this.send(text);
    await this.replyEnds(before + 1);
    return this.lastReply();
  }

  /** Waits until there are so many replies and none is being written any more. */
  async replyEnds(count: number): Promise<void> {
    await this.until(`reply ${count} ends`, async () => {
      const replies = await this.all("reply");
      const last = replies.at(-1);
      if (replies.length < count || !last) return false;
      return (await last.getAttribute("aria-busy")) !== "true";
    });
  }

  /** The text of every reply, without what the interface says about it. */
  async replies(): Promise<string[]> {
    const texts = (await this.all("reply")).map((reply) => reply.findElements(By.css(".markdown")));
    const found = await Promise.all(texts);
    return Promise.all(found.map(async ([text]) => (text ? this.textOf(text) : "")));
  }

  async lastReply(): Promise<string> {
    return (await this.replies()).at(-1) ?? "";
  }

  /** How the last reply ended: the name of the reason, or `failed`. */
  async lastStatus(): Promise<string> {
    const reply = (await this.all("reply")).at(-1);
    return (await reply?.getAttribute("data-status")) ?? "";
  }

  /** What the error says that is shown; where a library had much to say, that is unfolded first. */
  async errorText(): Promise<string> {
    const error = await this.find("error");
    const [folded] = await error.findElements(By.css("summary"));
    await folded?.click();
    return this.textOf(error);
  }

  /** Opens the model picker and returns the option of this model. */
  async option(model: string): Promise<WebElement> {
    const attributes = `[data-model-id="${model}"]`;
    if ((await this.all("picker-option")).length === 0) await (await this.find("picker")).click();
    return this.find("picker-option", attributes);
  }

  /** Waits until the picker shows this model in this state, and closes the picker. */
  async modelBecomes(model: string, state: string): Promise<void> {
    await this.until(`model \`${model}\` is ${state}`, async () => {
      const option = await this.option(model);
      return (await option.getAttribute("data-state")) === state;
    });
    await this.driver.actions().sendKeys(Key.ESCAPE).perform();
    await this.until("the picker is closed", async () => {
      return (await this.all("picker-option")).length === 0;
    });
  }

  async select(model: string): Promise<void> {
    await (await this.option(model)).click();
  }

  /** Numbers of the status line: what stands before `word`, for example "1,204 reused". */
  async statusNumber(word: string): Promise<number> {
    return this.until(`the status line says how many tokens were ${word}`, async () => {
      const text = (await this.texts("status")).join(" ");
      const match = new RegExp(`(\\d[\\d.,\\s]*)\\s${word}`).exec(text);
      return match?.[1] === undefined ? false : { tokens: Number(match[1].replace(/\D/g, "")) };
    }).then(({ tokens }) => tokens);
  }

  /** Presses keys where the focus is. */
  async press(...keys: string[]): Promise<void> {
    await this.driver
      .actions()
      .sendKeys(...keys)
      .perform();
  }

  /** Presses a key together with Control. */
  async command(key: string): Promise<void> {
    await this.driver.actions().keyDown(Key.CONTROL).sendKeys(key).keyUp(Key.CONTROL).perform();
  }

  /** Presses a key together with Control and Shift. */
  async shiftCommand(key: string): Promise<void> {
    const actions = this.driver.actions().keyDown(Key.CONTROL).keyDown(Key.SHIFT);
    await actions.sendKeys(key).keyUp(Key.SHIFT).keyUp(Key.CONTROL).perform();
  }

  /** The titles in the list of conversations, from the top. */
  async titles(): Promise<string[]> {
    return this.texts("conversation");
  }

  /** Waits until the list of conversations has these titles. */
  async titlesBecome(titles: string[]): Promise<void> {
    await this.until(`the list is ${titles.join(", ")}`, async () => {
      return JSON.stringify(await this.titles()) === JSON.stringify(titles);
    });
  }

  /** Opens the conversation with this title. */
  async openConversation(title: string): Promise<void> {
    await (await this.row(title)).findElement(By.css("[data-conversation]")).click();
    await this.until(`"${title}" is shown`, async () => {
      const row = await this.row(title);
      return (await row.findElements(By.css("[aria-current]"))).length === 1;
    });
  }

  /** Chooses from the menu of the conversation with this title. */
  async chooseFor(title: string, item: Hook): Promise<void> {
    const row = await this.row(title);
    await row.findElement(By.css('[data-testid="conversation-menu"]')).click();
    await (await this.find(item)).click();
  }

  private async row(title: string): Promise<WebElement> {
    return this.until(`"${title}" is listed`, async () => {
      const rows = await this.all("conversation");
      for (const row of rows) if ((await this.textOf(row)) === title) return row;
      return undefined;
    });
  }

  /** The text of the dialog that is open. */
  async dialogText(): Promise<string> {
    return this.until("a dialog is open", async () =>
      this.inPage(() => document.querySelector<HTMLElement>("dialog[open]")?.innerText.trim()),
    );
  }

  /** Closes the dialog that is open. */
  async closeDialog(): Promise<void> {
    await this.press(Key.ESCAPE);
    await this.until("the dialog is closed", async () =>
      this.inPage(() => document.querySelector("dialog[open]") === null),
    );
  }

  /** Runs a function in the page. */
  async inPage<T>(look: () => T): Promise<T> {
    return this.driver.executeScript(look);
  }

  /** Waits until all that appears has appeared and was drawn. */
  private async restsForAPicture(): Promise<void> {
    await this.driver.executeAsyncScript((done: () => void) => {
      const ends = document
        .getAnimations()
        .filter(({ effect }) => effect?.getComputedTiming().endTime !== Infinity)
        .map((animation) => animation.finished.catch(() => undefined));
      void Promise.all(ends).then(() => {
        requestAnimationFrame(() => requestAnimationFrame(() => done()));
      });
    });
  }

  /** Leaves a picture of the window where pictures are asked for. */
  async picture(name: string): Promise<void> {
    const scrolled = await this.inPage(() => document.scrollingElement?.scrollTop);
    if (scrolled !== 0) throw new Error(`the whole window is scrolled by ${scrolled} in "${name}"`);
    const folder = process.env["HEARTH_SCREENSHOTS"];
    if (!folder) return;
    await mkdir(folder, { recursive: true });
    // What the pointer was left on would show itself as pointed at.
    await this.driver.actions().move({ x: 4, y: 240 }).perform();
    await this.restsForAPicture();
    const picture = await this.driver.takeScreenshot();
    await writeFile(join(folder, `${name}.png`), picture, "base64");
  }
}

/**
 * Starts the program once more, without a driver, on the same data folder and session bus.
 *
 * @returns its exit code
 */
export async function startAgain(data: DataFolder): Promise<number | null> {
  const env = await isolated(data);
  const second = spawn(required("HEARTH_WINDOW"), [], { env, stdio: "ignore" });
  const timeout = setTimeout(() => second.kill(), PATIENCE);
  const [exitCode] = (await once(second, "exit")) as [number | null];
  clearTimeout(timeout);
  return exitCode;
}

/** Runs the program for the terminal on a data folder; fails with what it printed where it fails. */
export async function inTerminal(data: DataFolder, ...words: string[]): Promise<string> {
  const env = await isolated(data);
  const { stdout } = await promisify(execFile)(required("HEARTH_TERMINAL"), words, { env });
  return stdout;
}

/** An environment in which the window sees nothing of the user's files and settings. */
async function isolated(data: DataFolder): Promise<NodeJS.ProcessEnv> {
  const folders: Record<string, string> = {};
  for (const kind of ["CONFIG", "CACHE", "DATA", "STATE"]) {
    const folder = join(data.base, `xdg-${kind.toLowerCase()}`);
    await mkdir(folder, { recursive: true });
    folders[`XDG_${kind}_HOME`] = folder;
  }
  return {
    // What Mesa compiled for drawing is the machine's: without it a window takes a second more until it can draw.
    MESA_SHADER_CACHE_DIR: process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"),
    ...process.env,
    ...folders,
    HEARTH_DATA_DIR: data.path,
    HEARTH_DIALOGUE_ANSWER: data.dialogueAnswer,
    // Figures and dates in the window follow the language of the system; the scenarios read English.
    LC_ALL: "C.UTF-8",
    LANGUAGE: "en",
  };
}

function capabilities(application: string): Capabilities {
  return process.platform === "win32"
    ? new Capabilities({
        browserName: "webview2",
        "ms:edgeOptions": { binary: application, args: [], webviewOptions: {} },
      })
    : new Capabilities({
        browserName: "wry",
        "webkitgtk:browserOptions": { binary: application, args: [] },
      });
}
