import { cleanup, fireEvent, render, screen } from "@testing-library/svelte";
import { tick } from "svelte";
import { afterEach, expect, test, vi } from "vitest";
import App from "../App.svelte";
import { AppError } from "../lib/ipc/errors";
import { FakeIpc } from "../lib/ipc/fake";
import type { Pause } from "../lib/ipc/fakePause";
import type { ScenarioName } from "../lib/ipc/fakeScenarios";
import { Application } from "../lib/state/application.svelte";
import { HandDrivenFrames } from "../test/handDriven";

afterEach(cleanup);

const noPause: Pause = () => Promise.resolve();
const standstill: Pause = (milliseconds) =>
  milliseconds < 400 ? new Promise(() => undefined) : Promise.resolve();

async function openModels(scenario: ScenarioName = "library", pause: Pause = noPause) {
  const ipc = new FakeIpc(scenario, pause);
  const application = new Application(ipc, new HandDrivenFrames());
  application.follow();
  await application.open();
  render(App, { props: { application } });
  await tick();
  application.library.show();
  await screen.findByTestId("disk-section");
  return ipc;
}

test("the models are moved, and the folder that is shown is the new one", async () => {
  await openModels();
  await fireEvent.click(screen.getByTestId("move-library"));
  expect((await screen.findByTestId("moved")).textContent).toContain("/media/ada/disk/models");
  await vi.waitFor(() =>
    expect(screen.getByTestId("disk-use").textContent).toContain("/media/ada/disk/models"),
  );
  expect(screen.queryByTestId("move-progress")).toBeNull();
});

test("a move tells how far it is, and can be stopped", async () => {
  const ipc = await openModels("library", standstill);
  const stopping = vi.spyOn(ipc, "cancelLibraryMove");
  await fireEvent.click(screen.getByTestId("move-library"));
  expect((await screen.findByTestId("move-progress")).textContent).toContain("Moving the models");
  expect(screen.getByRole("progressbar", { name: "Progress of the move" })).toBeTruthy();
  await fireEvent.click(screen.getByTestId("cancel-move"));
  expect(stopping).toHaveBeenCalledOnce();
});

test("a move that is refused says why, and nothing was moved", async () => {
  const ipc = await openModels();
  const message =
    "cannot move the models to `/data/hearth`: it lies in the folder of Hearth's own data";
  vi.spyOn(ipc, "moveLibrary").mockRejectedValue(new AppError({ code: "libraryFolder", message }));
  await fireEvent.click(screen.getByTestId("move-library"));
  const error = await screen.findByTestId("error");
  expect(error.textContent).toContain("The models are where they were.");
  expect(screen.getByTestId("disk-use").textContent).toContain("/data/hearth/models");
});

test("a folder that is away is looked for again, or left for the default one", async () => {
  const ipc = await openModels("libraryAway");
  expect(screen.getByTestId("library-away").textContent).toContain("Nothing in it is lost");
  expect(screen.queryByTestId("move-library")).toBeNull();
  await fireEvent.click(screen.getByTestId("look-again"));
  expect((await screen.findByTestId("error")).dataset["code"]).toBe("libraryFolder");
  ipc.library.bringFolderBack();
  await fireEvent.click(screen.getByTestId("look-again"));
  await vi.waitFor(() => expect(screen.queryByTestId("library-away")).toBeNull());
  cleanup();
  await openModels("libraryAway");
  await fireEvent.click(screen.getByTestId("use-default-library"));
  await vi.waitFor(() =>
    expect(screen.getByTestId("disk-use").textContent).toContain("/data/hearth/models"),
  );
});
