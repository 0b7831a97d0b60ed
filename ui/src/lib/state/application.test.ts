import { expect, test, vi } from "vitest";
import { HandDrivenFrames, HandDrivenIpc } from "../../test/handDriven";
import { Application } from "./application.svelte";

function follow(ipc: HandDrivenIpc): Application {
  const application = new Application(ipc, new HandDrivenFrames());
  application.follow();
  return application;
}

/** Lets snapshots be read at once and arrive when the returned function is called. */
function delaySnapshots(ipc: HandDrivenIpc): () => void {
  const read = ipc.snapshot.bind(ipc);
  let arrive: () => void = () => undefined;
  const arrival = new Promise<void>((resolve) => (arrive = resolve));
  vi.spyOn(ipc, "snapshot").mockImplementation(async () => {
    const snapshot = await read();
    await arrival;
    return snapshot;
  });
  return arrive;
}

test("a model that gets ready while the first answer is on its way is ready", async () => {
  const ipc = new HandDrivenIpc("loading");
  const application = follow(ipc);
  const arrive = delaySnapshots(ipc);
  const opening = application.open();
  await vi.waitFor(() => expect(ipc.snapshot).toHaveBeenCalled());
  ipc.finishLoading();
  arrive();
  await opening;
  expect(application.isOpen).toBe(true);
  expect(application.models.isReady).toBe(true);
  expect(application.models.isLoading).toBe(false);
});

test("notices and conversations that change meanwhile are not overwritten", async () => {
  const ipc = new HandDrivenIpc("notices");
  const application = follow(ipc);
  const arrive = delaySnapshots(ipc);
  const opening = application.open();
  await vi.waitFor(() => expect(ipc.snapshot).toHaveBeenCalled());
  await ipc.dismissNotice("coreml");
  await ipc.renameConversation("conversation-1", "Renamed meanwhile");
  arrive();
  await opening;
  expect(application.notices.list.map(({ id }) => id)).toEqual(["template"]);
  await vi.waitFor(() =>
    expect(application.conversations.list.map(({ title }) => title)).toEqual(["Renamed meanwhile"]),
  );
});

test("nothing is read before the window hears of changes", async () => {
  const ipc = new HandDrivenIpc();
  const application = follow(ipc);
  let hear: () => void = () => undefined;
  vi.spyOn(ipc, "listening").mockReturnValue(new Promise<void>((resolve) => (hear = resolve)));
  const reading = vi.spyOn(ipc, "snapshot");
  const opening = application.open();
  await Promise.resolve();
  expect(reading).not.toHaveBeenCalled();
  hear();
  await opening;
  expect(reading).toHaveBeenCalledOnce();
});

test("a late answer about a model that was given up does not call it ready", async () => {
  const ipc = new HandDrivenIpc("conversation");
  const application = follow(ipc);
  await application.open();
  const select = ipc.selectModel.bind(ipc);
  let arrive: () => void = () => undefined;
  vi.spyOn(ipc, "selectModel").mockImplementationOnce(async (id) => {
    const model = await select(id);
    await new Promise<void>((resolve) => (arrive = resolve));
    return model;
  });
  const first = application.selectModel("smollm2-135m");
  await vi.waitFor(() => expect(application.models.isReady).toBe(true));
  await application.selectModel("ember");
  arrive();
  await first;
  const states = application.models.list.map(({ id, state }) => [id, state.type]);
  expect(states).toContainEqual(["smollm2-135m", "available"]);
  expect(states).toContainEqual(["ember", "ready"]);
});
