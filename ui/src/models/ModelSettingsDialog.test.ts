import { cleanup, fireEvent, render, screen, within } from "@testing-library/svelte";
import { tick } from "svelte";
import { afterEach, expect, test, vi } from "vitest";
import App from "../App.svelte";
import { FakeIpc } from "../lib/ipc/fake";
import { Application } from "../lib/state/application.svelte";
import { HandDrivenFrames } from "../test/handDriven";

afterEach(cleanup);

async function openSettings() {
  const ipc = new FakeIpc("library", () => Promise.resolve());
  const application = new Application(ipc, new HandDrivenFrames());
  application.follow();
  await application.open();
  render(App, { props: { application } });
  await tick();
  application.library.show();
  const [row] = await screen.findAllByTestId("installed-model");
  if (!row) throw new Error("no model is installed");
  await fireEvent.click(within(row).getByTestId("open-model-settings"));
  await screen.findByTestId("model-temperature");
  return { ipc, row };
}

const field = (name: string) => screen.getByTestId<HTMLInputElement>(`model-${name}`);
const noteOf = (name: string) =>
  screen
    .getAllByTestId("model-number")
    .find((element) => element.dataset["name"] === name)
    ?.querySelector(".note")?.textContent;
const disabled = (hook: string) => screen.getByTestId<HTMLButtonElement>(hook).disabled;

async function type(name: string, text: string): Promise<void> {
  await fireEvent.input(field(name), { target: { value: text } });
}

test("empty fields tell what is in force, and why", async () => {
  await openSettings();
  expect(field("temperature").value).toBe("");
  expect(field("temperature").placeholder).toBe("0.6 by the model");
  expect(field("topK").placeholder).toBe("20 by the catalogue");
  expect(field("threads").placeholder).toBe("4 by this computer");
  expect(disabled("save-model-settings"), "nothing was changed").toBe(true);
  expect(disabled("clear-model-settings"), "nothing was chosen").toBe(true);
});

test("what was typed is saved, shown the next time, and taken back", async () => {
  const { ipc, row } = await openSettings();
  const setting = vi.spyOn(ipc, "setModelSettings");
  await type("temperature", "0,2");
  await fireEvent.input(screen.getByTestId("model-system"), { target: { value: "Be brief." } });
  await fireEvent.click(screen.getByTestId("save-model-settings"));
  await vi.waitFor(() => expect(screen.queryByTestId("model-settings")).toBeNull());
  expect(setting).toHaveBeenCalledWith(expect.any(String), {
    system: "Be brief.",
    numbers: [{ name: "temperature", value: 0.2 }],
  });
  await fireEvent.click(within(row).getByTestId("open-model-settings"));
  expect((await screen.findByTestId<HTMLInputElement>("model-temperature")).value).toBe("0.2");
  await fireEvent.click(screen.getByTestId("clear-model-settings"));
  expect(field("temperature").value).toBe("");
  await fireEvent.click(screen.getByTestId("save-model-settings"));
  await vi.waitFor(() => expect(screen.queryByTestId("model-settings")).toBeNull());
  expect(setting).toHaveBeenLastCalledWith(expect.any(String), { system: null, numbers: [] });
});

test("a value outside of its range is told beside it and not sent", async () => {
  const { ipc } = await openSettings();
  const setting = vi.spyOn(ipc, "setModelSettings");
  for (const [name, text, range] of [
    ["topP", "1.5", "from 0 to 1"],
    ["threads", "2.5", "a whole number"],
    ["maxTokens", "many", "from 1 to 1000000"],
  ] as const) {
    await type(name, text);
    expect(field(name).getAttribute("aria-invalid")).toBe("true");
    expect(noteOf(name)).toContain(range);
    expect(disabled("save-model-settings")).toBe(true);
    await type(name, "");
  }
  expect(setting).not.toHaveBeenCalled();
});

test("a larger window says what it costs in memory and whether that fits", async () => {
  await openSettings();
  await type("context", "4096");
  expect(noteOf("context")).toContain("4,096 tokens take up to 470 MB of memory");
  expect(noteOf("context")).toContain("fits this computer");
  await type("context", "32768");
  expect(noteOf("context")).toContain("3.8 GB");
});
