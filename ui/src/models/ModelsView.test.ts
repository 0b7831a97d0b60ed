import { cleanup, fireEvent, render, screen, within } from "@testing-library/svelte";
import { tick } from "svelte";
import { afterEach, describe, expect, test, vi } from "vitest";
import App from "../App.svelte";
import { AppError } from "../lib/ipc/errors";
import { FakeIpc } from "../lib/ipc/fake";
import type { Pause } from "../lib/ipc/fakePause";
import type { ScenarioName } from "../lib/ipc/fakeScenarios";
import { Application } from "../lib/state/application.svelte";
import { HandDrivenFrames } from "../test/handDriven";

afterEach(cleanup);

const noPause: Pause = () => Promise.resolve();
/** Downloads begin and get no further. */
const standstill: Pause = (milliseconds) =>
  milliseconds < 400 ? new Promise(() => undefined) : Promise.resolve();

async function open(scenario: ScenarioName = "empty", pause: Pause = noPause) {
  const ipc = new FakeIpc(scenario, pause);
  const application = new Application(ipc, new HandDrivenFrames());
  application.follow();
  await application.open();
  render(App, { props: { application } });
  await tick();
  return { ipc, application };
}

async function openModels(scenario: ScenarioName = "library", pause: Pause = noPause) {
  const window = await open(scenario, pause);
  window.application.library.show();
  await screen.findAllByTestId("available-model");
  return window;
}

const row = (hook: string, id: string) =>
  screen.getAllByTestId(hook).find((element) => element.dataset["modelId"] === id) ??
  expect.fail(`${hook} ${id} is not shown`);

async function find(text: string): Promise<void> {
  await fireEvent.input(screen.getByTestId("find-field"), { target: { value: text } });
  await fireEvent.click(screen.getByTestId("find-models"));
}

describe("the view of models", () => {
  test("is the last entry of the picker, by keyboard too", async () => {
    await open();
    await fireEvent.keyDown(document.body, { key: "k", ctrlKey: true });
    const field = screen.getByRole("combobox");
    await fireEvent.keyDown(field, { key: "ArrowUp" });
    const browse = screen.getByTestId("browse-models");
    expect(field.getAttribute("aria-activedescendant")).toBe(browse.id);
    await fireEvent.keyDown(field, { key: "Enter" });
    expect(screen.getByTestId("models-view")).toBeTruthy();
    expect(document.activeElement).toBe(screen.getByRole("heading", { name: "Models" }));
  });

  test("is opened from the menu too, and Esc leads back without stopping a reply", async () => {
    const { ipc } = await open();
    const stops = vi.spyOn(ipc, "stopReply");
    await fireEvent.click(screen.getByTestId("menu"));
    await fireEvent.click(screen.getByTestId("open-models"));
    expect(screen.getByTestId("models-view")).toBeTruthy();
    await fireEvent.keyDown(document.body, { key: "Escape" });
    await vi.waitFor(() => expect(screen.queryByTestId("models-view")).toBeNull());
    await vi.waitFor(() => expect(document.activeElement).toBe(screen.getByTestId("composer")));
    expect(stops).not.toHaveBeenCalled();
  });

  test("leaves the conversation below as it is, and nobody gets into that meanwhile", async () => {
    const { application } = await openModels("conversation");
    expect(screen.getAllByTestId("reply")).toHaveLength(2);
    expect(screen.getByTestId("composer").closest("[inert]")).toBeTruthy();
    await application.conversations.begin(false);
    await tick();
    expect(screen.queryByTestId("models-view"), "a conversation comes to the front").toBeNull();
  });

  test("tells size, licence, window and fit before a download", async () => {
    await openModels();
    const tight = row("available-model", "qwen3-4b");
    expect(tight.textContent).toContain("4.0B parameters · 2.9 GB · 32,768 token window");
    expect(tight.textContent).toContain("Apache-2.0");
    const fit = within(tight).getByTestId("fit");
    expect(fit.dataset["fit"]).toBe("tight");
    expect(fit.title).toBe("Takes about 11 GB of this computer’s 16 GB memory while it answers");
    expect(within(row("available-model", "phi-3.5-mini")).getByText(/Too large/u)).toBeTruthy();
    expect(row("available-model", "gemma-3-1b").textContent).toContain(
      "It comes under the Gemma Terms of Use; read its terms",
    );
  });

  test("tells what the models take of the disk", async () => {
    await openModels();
    const disk = screen.getByTestId("disk-use").textContent;
    expect(disk).toContain("Models take 3.7 GB; 45 GB of the disk are free");
    expect(disk).toContain("/data/hearth/models");
  });
});

describe("a download", () => {
  test("ends among the models and never jumps to be the one that answers", async () => {
    const { application } = await openModels();
    await fireEvent.click(
      within(row("available-model", "smollm2-360m")).getByTestId("download-model"),
    );
    const id = "smollm2-360m@a10cc1512eab";
    await vi.waitFor(() => expect(row("installed-model", id)).toBeTruthy());
    expect(screen.queryByTestId("download")).toBeNull();
    expect(application.models.selectedId).toBe("ember");
    await vi.waitFor(() =>
      expect(row("available-model", "smollm2-360m").textContent).toContain("Installed"),
    );
  });

  test("is paused, goes on, and is cancelled", async () => {
    await openModels("library", standstill);
    await fireEvent.click(
      within(row("available-model", "smollm2-360m")).getByTestId("download-model"),
    );
    const shown = await screen.findByTestId("download");
    expect(row("available-model", "smollm2-360m").textContent).toContain("On its way");
    await fireEvent.click(within(shown).getByTestId("pause-download"));
    await vi.waitFor(() => expect(shown.dataset["state"]).toBe("paused"));
    await fireEvent.click(within(shown).getByRole("button", { name: /^Resume SmolLM2/u }));
    await vi.waitFor(() => expect(shown.dataset["state"]).toBe("downloading"));
    await fireEvent.click(within(shown).getByTestId("cancel-download"));
    await vi.waitFor(() => expect(screen.queryByTestId("download")).toBeNull());
  });

  test("that is under way goes on while the view is closed", async () => {
    const { application } = await openModels();
    await fireEvent.click(
      within(row("available-model", "smollm2-360m")).getByTestId("download-model"),
    );
    await fireEvent.click(screen.getByTestId("close-models"));
    await vi.waitFor(() =>
      expect(application.models.list.some(({ id }) => id.startsWith("smollm2-360m@"))).toBe(true),
    );
  });

  test("tells its state in a line and in its bar", async () => {
    await openModels("downloads");
    const shown = screen.getAllByTestId("download");
    expect(shown.map((element) => element.dataset["state"])).toEqual([
      "downloading",
      "waiting",
      "paused",
      "checking",
      "queued",
    ]);
    const [coming, waiting, , checking] = shown;
    expect(coming?.textContent).toContain("Downloading · 612 MB of 1.4 GB · 11 MB/s · 1 min left");
    const bar = within(coming as HTMLElement).getByRole("progressbar");
    expect(bar.getAttribute("aria-valuenow")).toBe("43");
    expect(waiting?.textContent).toContain("Waiting for the network");
    expect(waiting?.textContent).toContain("no connection");
    const unknown = within(checking as HTMLElement).getByRole("progressbar");
    expect(unknown.hasAttribute("aria-valuenow"), "nobody knows how far it is").toBe(false);
  });

  test("that failed says what, and offers to retry only where that can help", async () => {
    await openModels("downloadFailed");
    const [full, gated] = screen.getAllByTestId("download");
    expect(within(full as HTMLElement).getByTestId("error").textContent).toContain(
      "812,402,311 bytes more are needed",
    );
    expect(within(full as HTMLElement).getByRole("button", { name: /^Retry/u })).toBeTruthy();
    expect(within(gated as HTMLElement).getByRole("button", { name: /^Retry/u })).toBeTruthy();
    expect(within(gated as HTMLElement).getByTestId("cancel-download")).toBeTruthy();
  });

  test("of a gated model leads to where a token is entered", async () => {
    await openModels("downloadFailed");
    const gated = screen.getAllByTestId("download")[1] as HTMLElement;
    expect(within(gated).getByTestId("error").textContent).toContain("on the repository’s page");
    await fireEvent.click(within(gated).getByTestId("enter-token"));
    expect(await screen.findByTestId("token")).toBeTruthy();
  });

  test("that may not begin is explained where it was asked for", async () => {
    await openModels("offline");
    const model = row("available-model", "qwen3-0.6b");
    await fireEvent.click(within(model).getByTestId("download-model"));
    const error = await within(model).findByTestId("error");
    expect(error.dataset["code"]).toBe("offline");
    expect(within(model).getByTestId("retry")).toBeTruthy();
  });
});

describe("the list of models", () => {
  const names = () =>
    screen.getAllByTestId("available-model").map(({ dataset }) => dataset["modelId"]);
  const refresh = () => fireEvent.click(screen.getByTestId("refresh-list"));

  async function openWithList(address: string) {
    const window = await openModels();
    const { choice } = await window.ipc.readNetwork();
    await window.ipc.setNetwork({ ...choice, catalog: address });
    await window.application.library.read();
    return window;
  }

  test("is not refreshed from anywhere by default, and says where an address is entered", async () => {
    const { ipc } = await openModels();
    await refresh();
    await fireEvent.click(await screen.findByRole("button", { name: "Enter one" }));
    expect(await screen.findByTestId("list-address")).toBeTruthy();
    expect(ipc.library.asked).toEqual([]);
  });

  test("is refreshed when asked for, says where it is from, and is left again", async () => {
    await openWithList("https://lists.example/catalog.json");
    const own = names();
    await refresh();
    const said = await screen.findByTestId("refreshed-list");
    expect(said.textContent).toContain("lists.example");
    expect(names()).toEqual([...own, "tiny-talker"]);
    expect(row("available-model", "tiny-talker").textContent).toContain("from lists.example");
    expect(row("available-model", "qwen3-0.6b").textContent).not.toContain("lists.example");
    const leave = screen.getByTestId<HTMLButtonElement>("leave-list");
    await vi.waitFor(() => expect(leave.disabled).toBe(false));
    await fireEvent.click(leave);
    await vi.waitFor(() => expect(names()).toEqual(own));
    expect(screen.queryByTestId("refreshed-list")).toBeNull();
  });

  test("of another server comes with the warning of other sources", async () => {
    await openWithList("https://lists.example/catalog.json");
    await refresh();
    await screen.findByTestId("refreshed-list");
    await fireEvent.click(
      within(row("available-model", "tiny-talker")).getByTestId("download-model"),
    );
    expect(screen.queryByTestId("download"), "nothing begins before").toBeNull();
    expect(screen.getByTestId("other-source").textContent).toContain("someone/tiny-talker");
    await fireEvent.click(screen.getByTestId("accept-source"));
    await vi.waitFor(() => expect(row("installed-model", "tiny-talker@a10cc1512eab")).toBeTruthy());
  });

  test("that cannot be used leaves the one of before", async () => {
    await openWithList("https://lists.example/broken.json");
    const own = names();
    await refresh();
    expect((await screen.findByTestId("toast")).textContent).toContain("could not be refreshed");
    expect(names()).toEqual(own);
  });
});

describe("finding a model", () => {
  test("words search, a hit is looked up, and one comes back to the hits", async () => {
    const { ipc } = await openModels();
    await find("smollm2");
    const hits = await screen.findAllByTestId("repository-hit");
    expect(hits).toHaveLength(3);
    await fireEvent.click(hits[0] as HTMLElement);
    const repository = await screen.findByTestId("repository");
    expect(repository.textContent).toContain("apache-2.0");
    expect(ipc.library.asked).toEqual(["smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct"]);
    await fireEvent.click(within(repository).getByRole("button", { name: "Results" }));
    expect(screen.getAllByTestId("repository-hit")).toHaveLength(3);
  });

  test("an id or link is looked up, and what cannot run says why", async () => {
    await openModels();
    await find(" https://huggingface.co/someone/pictures ");
    const repository = await screen.findByTestId("repository");
    expect(within(repository).getByTestId("no-variant").textContent).toContain(
      "Its one graph cannot run here",
    );
    expect(repository.textContent).toContain("such models are made of several graphs");
    expect(within(repository).queryByTestId("download-model")).toBeNull();
  });

  test("the first model from outside of the catalogue comes with a warning, the second without", async () => {
    await openModels();
    await find("someone/small");
    const [q4, quantized] = await screen.findAllByTestId("variant");
    await fireEvent.click(within(q4 as HTMLElement).getByTestId("download-model"));
    expect(screen.queryByTestId("download"), "nothing begins before").toBeNull();
    expect(screen.getByTestId("other-source").textContent).toContain("someone/small");
    await fireEvent.click(screen.getByTestId("accept-source"));
    await vi.waitFor(() => expect(row("installed-model", "small-q4@a10cc1512eab")).toBeTruthy());
    await fireEvent.click(within(quantized as HTMLElement).getByTestId("download-model"));
    expect(screen.queryByTestId("other-source")).toBeNull();
    await vi.waitFor(() =>
      expect(row("installed-model", "small-quantized@a10cc1512eab")).toBeTruthy(),
    );
  });

  test("a repository that is not there is said", async () => {
    await openModels();
    await find("someone/missing");
    const error = await screen.findByTestId("error");
    expect(error.dataset["code"]).toBe("repositoryMissing");
    expect(error.textContent).toContain("someone/missing");
  });

  test("nothing is asked before Find is pressed", async () => {
    const { ipc } = await openModels();
    await fireEvent.input(screen.getByTestId("find-field"), { target: { value: "smollm" } });
    expect(ipc.library.asked).toEqual([]);
  });
});

describe("an installed model", () => {
  const QWEN = "qwen2.5-0.5b-instruct";

  test("is removed, and put back by the sentence or by its row", async () => {
    const { application } = await openModels();
    await fireEvent.click(within(row("installed-model", QWEN)).getByTestId("remove-model"));
    const toast = await screen.findByText(/was removed. Its 786 MB are freed when Hearth ends/u);
    expect(toast).toBeTruthy();
    expect(row("removed-model", QWEN)).toBeTruthy();
    const action = screen
      .getAllByTestId("toast-action")
      .find((button) => !button.closest("[inert]"));
    await fireEvent.click(action as HTMLElement);
    await vi.waitFor(() => expect(row("installed-model", QWEN)).toBeTruthy());

    await fireEvent.click(within(row("installed-model", QWEN)).getByTestId("remove-model"));
    await vi.waitFor(() => expect(screen.getByTestId("removed-model")).toBeTruthy());
    await fireEvent.click(screen.getByTestId("restore-model"));
    await vi.waitFor(() => expect(row("installed-model", QWEN)).toBeTruthy());
    expect(application.library.removed).toEqual([]);
  });

  test("is deleted at once where one says so", async () => {
    await openModels();
    await fireEvent.click(within(row("installed-model", QWEN)).getByTestId("remove-model"));
    await fireEvent.click(await screen.findByTestId("delete-model"));
    await vi.waitFor(() => expect(screen.queryByTestId("removed-model")).toBeNull());
    expect(screen.getByText(/is deleted, and 786 MB are free/u)).toBeTruthy();
  });

  test("is repaired, and what was wrong is said", async () => {
    await openModels();
    await fireEvent.click(within(row("installed-model", QWEN)).getByTestId("repair-model"));
    expect(await screen.findByText(/Every byte of Qwen2.5 0.5B Instruct is right/u)).toBeTruthy();
  });

  test("that cannot be removed says so and stays", async () => {
    const { ipc } = await openModels();
    vi.spyOn(ipc, "removeModel").mockRejectedValue(
      new AppError({ code: "libraryFolder", message: "cannot remove `/data/x`: it is in use" }),
    );
    await fireEvent.click(within(row("installed-model", QWEN)).getByTestId("remove-model"));
    expect(await screen.findByText(/could not be removed.*it is in use/u)).toBeTruthy();
    expect(row("installed-model", QWEN)).toBeTruthy();
  });

  test("the built-in one can neither be removed nor repaired", async () => {
    await openModels();
    const ember = row("installed-model", "ember");
    expect(within(ember).queryByTestId("remove-model")).toBeNull();
    expect(within(ember).queryByTestId("repair-model")).toBeNull();
    expect(ember.textContent).toContain("comes with Hearth");
  });

  test("is used from its row, which leads back to the conversation", async () => {
    const { application } = await openModels();
    await fireEvent.click(within(row("installed-model", "smollm2-135m")).getByTestId("use-model"));
    await vi.waitFor(() => expect(application.models.selected?.id).toBe("smollm2-135m"));
    expect(screen.queryByTestId("models-view")).toBeNull();
  });
});

describe("a folder", () => {
  test("is imported by its button", async () => {
    await openModels();
    await fireEvent.click(screen.getByTestId("import-model"));
    await vi.waitFor(() => expect(row("installed-model", "my-model")).toBeTruthy());
  });

  test("that is dropped on the window opens the view; anything else is refused with a sentence", async () => {
    const { ipc } = await open("empty", standstill);
    ipc.drop(true);
    await screen.findByTestId("models-view");
    expect((await screen.findByTestId("download")).textContent).toContain("Copying");
    ipc.drop(false);
    expect(await screen.findByText("Only the folder of a model can be dropped here.")).toBeTruthy();
  });
});
