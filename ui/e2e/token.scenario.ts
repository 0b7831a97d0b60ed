import { By, Key } from "selenium-webdriver";
import { readdir, readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { afterEach, expect } from "vitest";
import { COMMIT, Hub } from "./hub";
import { scenario } from "./scenario";
import type { HearthWindow } from "./window";

const EMBER = resolve(import.meta.dirname, "../../models/ember");
const REPOSITORY = "someone/gated-model";
const INSTALLED = `gated-model-model@${COMMIT.slice(0, 12)}`;
const ROW = `[data-model-id="${INSTALLED}"]`;
const TOKEN = "hf_canaryCanaryCanaryCanary4711";

let hub: Hub | null = null;

afterEach(async () => {
  await hub?.stop();
  hub = null;
});

async function openRepository(window: HearthWindow): Promise<void> {
  await (await window.find("picker")).click();
  await (await window.find("browse-models")).click();
  await (await window.find("find-field")).sendKeys(REPOSITORY, Key.ENTER);
  await window.find("variant");
}

async function tokenIs(window: HearthWindow, words: string): Promise<void> {
  await window.until(`the token is told of as “${words}”`, async () =>
    ((await window.texts("token-state"))[0] ?? "").includes(words),
  );
}

/** The page as it is now, with what stands in its fields. */
async function page(window: HearthWindow): Promise<string> {
  return window.inPage(() =>
    [
      new XMLSerializer().serializeToString(document),
      ...[...document.querySelectorAll("input, textarea")].map(
        (field) => (field as HTMLInputElement).value,
      ),
    ].join("\n"),
  );
}

// The session bus of the scenarios has no Secret Service, as that of a bare system has none.
scenario(
  "a gated model says what to do, a token for this run opens it, and the next start says it is gone",
  async ({ data, open }) => {
    hub = await Hub.start();
    await hub.storeFolder(REPOSITORY, EMBER);
    hub.demandToken(REPOSITORY, TOKEN);
    const { environment } = hub;
    const window = await open({ environment });
    await window.modelBecomes("ember", "ready");
    await openRepository(window);
    await (await window.find("download-model", `[aria-label="Download model"]`)).click();
    await (await window.find("accept-source")).click();
    const failed = await window.find("download", `${ROW}[data-state="failed"]`);
    const refusal = await window.textOf(failed);
    expect(refusal).toContain(`${environment["HF_ENDPOINT"]}/${REPOSITORY}`);
    expect(refusal).toContain("enter an access token");
    await window.picture("token needed");
    await failed.findElement(By.css('[data-testid="enter-token"]')).click();

    await tokenIs(window, "None is set.");
    await (await window.find("token")).sendKeys(TOKEN);
    await (await window.find("save-token")).click();
    await window.find("error", '[data-code="keychainUnusable"]');
    await tokenIs(window, "None is set.");
    await window.picture("token without a keychain");
    await (await window.find("token-for-this-run")).click();
    await tokenIs(window, "Set until Hearth ends. It ends in “4711”.");
    expect(await page(window), "what was entered is gone from the window").not.toContain("canary");
    await window.picture("token for this run");
    await window.closeDialog();

    await (await window.find("resume-download", `[aria-label^="Retry"]`)).click();
    await window.find("installed-model", ROW);
    const sent = hub.requests.filter(({ authorization }) => authorization !== undefined);
    expect(new Set(sent.map(({ authorization }) => authorization))).toEqual(
      new Set([`Bearer ${TOKEN}`]),
    );
    await window.close();
    expect(await filesWith(data.base, TOKEN)).toEqual([]);

    const again = await open({ environment });
    await again.modelBecomes("ember", "ready");
    await again.command(",");
    await tokenIs(again, "kept for one run only");
    await again.picture("settings network");
    expect(await again.all("requests"), "the settings list the requests").toHaveLength(1);
    await again.closeDialog();
  },
);

/** The files below `folder` that hold `text`. */
async function filesWith(folder: string, text: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name));
  expect(files.length, "there are files to look at").toBeGreaterThan(5);
  const found = await Promise.all(files.map(async (path) => (await readFile(path)).includes(text)));
  return files.filter((_, index) => found[index]);
}
