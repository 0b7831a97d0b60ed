import { By, Key } from "selenium-webdriver";
import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { afterEach, expect } from "vitest";
import { COMMIT, Hub } from "./hub";
import { scenario } from "./scenario";
import type { Hook, HearthWindow } from "./window";

const EMBER = resolve(import.meta.dirname, "../../models/ember");
const FIXTURE = resolve(import.meta.dirname, "../../../shared/fixtures/models/concat16-q4");
const REPOSITORY = "someone/small-model";
const INSTALLED = `small-model-model@${COMMIT.slice(0, 12)}`;
const GRAPH = "model.onnx";
const HALF = 4_000_000;

let hub: Hub | null = null;

afterEach(async () => {
  await hub?.stop();
  hub = null;
});

async function startHub(): Promise<Hub> {
  hub = await Hub.start();
  await hub.storeFolder(REPOSITORY, EMBER);
  hub.store("someone/pictures", { "onnx/vision_encoder.onnx": Buffer.alloc(5000, 1) });
  return hub;
}

async function openModels(window: HearthWindow): Promise<void> {
  await (await window.find("picker")).click();
  await (await window.find("browse-models")).click();
  await window.find("available-model");
}

async function findOnHub(window: HearthWindow, text: string): Promise<void> {
  const field = await window.find("find-field");
  await field.clear();
  await field.sendKeys(text, Key.ENTER);
}

/** Presses a button of the row of this model. */
async function press(window: HearthWindow, row: Hook, button: Hook): Promise<void> {
  const element = await window.find(row, `[data-model-id="${INSTALLED}"]`);
  await element.findElement(By.css(`[data-testid="${button}"]`)).click();
}

async function downloadBecomes(window: HearthWindow, state: string): Promise<void> {
  await window.find("download", `[data-model-id="${INSTALLED}"][data-state="${state}"]`);
}

/** What the text of the download's row says of the bytes that are there. */
async function hasBytes(window: HearthWindow): Promise<void> {
  await window.until("bytes are there", async () => {
    return /[1-9][\d.]* MB of 9 MB/u.test((await window.texts("download")).join(" "));
  });
}

scenario(
  "a model is downloaded, paused, found after a restart, resumed, chatted with and removed",
  async ({ data, open }) => {
    const { environment } = await startHub();
    hub?.hold(GRAPH, HALF);
    const window = await open({ environment });
    await window.modelBecomes("ember", "ready");
    await openModels(window);
    await window.picture("models");
    await findOnHub(window, "small");
    await (await window.find("repository-hit")).click();
    await window.find("variant");
    await window.picture("models repository");
    await (await window.find("download-model", `[aria-label="Download model"]`)).click();
    await window.find("other-source");
    await window.picture("models warning");
    await (await window.find("accept-source")).click();
    await downloadBecomes(window, "downloading");
    await hasBytes(window);
    await window.picture("models downloading");
    await press(window, "download", "pause-download");
    await downloadBecomes(window, "paused");
    await window.close();
    expect(await visible(data.models), "nothing is seen of half a model").toEqual([]);
    hub?.release();

    const again = await open({ environment });
    await again.modelBecomes("ember", "ready");
    const before = hub?.requests.length ?? 0;
    await openModels(again);
    await downloadBecomes(again, "paused");
    expect(hub?.requests.length, "nothing goes on by itself").toBe(before);
    await again.picture("models after restart");
    await press(again, "download", "resume-download");
    await again.find("installed-model", `[data-model-id="${INSTALLED}"]`);
    const graph = hub?.requests.slice(before).filter(({ path }) => path.endsWith(GRAPH));
    expect(graph?.map(({ range }) => range)).toEqual([`bytes=${HALF}-`]);
    await again.modelBecomes("ember", "ready");
    await again.picture("models installed");

    await press(again, "installed-model", "use-model");
    await again.modelBecomes(INSTALLED, "ready");
    expect(await again.ask("What can you do?")).not.toBe("");

    await openModels(again);
    await press(again, "installed-model", "remove-model");
    await again.find("removed-model");
    const undo = await again.find("toast-action");
    expect(await visible(data.models)).toEqual([]);
    await again.picture("models removed");
    await undo.click();
    await again.find("installed-model", `[data-model-id="${INSTALLED}"]`);
    expect(await visible(data.models)).toEqual([INSTALLED]);
    await press(again, "installed-model", "remove-model");
    await again.find("removed-model");
    await again.close();

    const last = await open({ environment });
    await last.modelBecomes("ember", "ready");
    expect(await visible(data.models)).toEqual([]);
    expect(
      (await readdir(join(data.models, ".staging"))).filter((name) => name.startsWith(".aside")),
      "the removed model is deleted",
    ).toEqual([]);
  },
);

scenario(
  "a model of another exporter comes while the chat goes on, is prepared and answers",
  async ({ data, open }) => {
    if (!existsSync(FIXTURE)) {
      if (process.env["CI"]) throw new Error("the fixtures are missing");
      console.log("skipped: the fixtures are not beside the project");
      return;
    }
    const { environment } = await startHub();
    await hub?.storeFolder(REPOSITORY, FIXTURE);
    hub?.hold("model.onnx_data", 1000);
    const window = await open({ environment });
    await window.modelBecomes("ember", "ready");
    await openModels(window);
    await findOnHub(window, REPOSITORY);
    await window.find("variant");
    await (await window.find("download-model", `[aria-label="Download model"]`)).click();
    await window.find("other-source");
    await (await window.find("accept-source")).click();
    await downloadBecomes(window, "downloading");
    await window.press(Key.ESCAPE);
    expect(await window.ask("What can you do?"), "meanwhile the chat goes on").not.toBe("");
    hub?.release();
    await window.modelBecomes(INSTALLED, "available");
    await openModels(window);
    await press(window, "installed-model", "use-model");
    await window.modelBecomes(INSTALLED, "ready");
    expect(await readdir(join(data.models, INSTALLED))).toContain("prepared.json");
    expect(await window.ask("Once upon a time")).not.toBe("");
  },
);

scenario(
  "a repository that cannot run says why, and one that is not there too",
  async ({ open }) => {
    const { environment } = await startHub();
    const window = await open({ environment });
    await openModels(window);
    await findOnHub(window, "someone/pictures");
    expect(await window.textOf(await window.find("repository"))).toContain(
      "such models are made of several graphs",
    );
    await window.picture("models unsupported");
    await findOnHub(window, "someone/nothing");
    expect(await window.errorText()).toContain("someone/nothing");
    await window.picture("models missing repository");
  },
);

scenario("without a network the library says so, and the chat goes on", async ({ open }) => {
  const { environment } = await startHub();
  const window = await open({ environment });
  await openModels(window);
  await findOnHub(window, "someone/small-model");
  await window.find("variant");
  await hub?.stop();
  hub = null;
  await findOnHub(window, "small");
  expect(await window.errorText()).toContain("127.0.0.1");
  await window.picture("models without network");
  await window.press(Key.ESCAPE);
  await window.modelBecomes("ember", "ready");
  expect(await window.ask("What can you do?")).not.toBe("");
});

scenario("offline means that nobody is asked", async ({ open }) => {
  const { environment } = await startHub();
  const window = await open({ environment: { ...environment, HF_HUB_OFFLINE: "1" } });
  await openModels(window);
  await (await window.find("download-model")).click();
  await findOnHub(window, "small");
  await window.until("the switch is named", async () => {
    return (await window.texts("error")).some((text) => text.includes("HF_HUB_OFFLINE"));
  });
  expect(hub?.requests).toEqual([]);
});

scenario("the library fits into the smallest window and into the dark", async ({ data, open }) => {
  const { environment } = await startHub();
  await data.addModel("second");
  const window = await open({ environment: { ...environment, GTK_THEME: "Adwaita:dark" } });
  await openModels(window);
  await window.picture("dark models");
  await window.driver.manage().window().setRect({ width: 480, height: 480 });
  await window.until("the window is small", async () =>
    window.inPage(() => innerWidth <= 480 && innerHeight <= 480),
  );
  const sideways = await window.inPage(() =>
    [
      ...document.querySelectorAll("[data-testid='models-view'], [data-testid='models-view'] *"),
    ].some((element) => element.getBoundingClientRect().right > innerWidth + 1),
  );
  expect(sideways, "nothing has to be scrolled sideways").toBe(false);
  await window.picture("narrow models");
});

/** The model folders that a user would see. */
async function visible(models: string): Promise<string[]> {
  return (await readdir(models)).filter((name) => !name.startsWith("."));
}
