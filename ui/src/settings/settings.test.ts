import { cleanup, fireEvent, render, screen } from "@testing-library/svelte";
import { tick } from "svelte";
import { afterEach, describe, expect, test, vi } from "vitest";
import App from "../App.svelte";
import { AppError } from "../lib/ipc/errors";
import { Application } from "../lib/state/application.svelte";
import { HandDrivenFrames, HandDrivenIpc } from "../test/handDriven";

afterEach(cleanup);

async function openSettings() {
  const ipc = new HandDrivenIpc("conversation");
  const application = new Application(ipc, new HandDrivenFrames());
  await application.open();
  render(App, { props: { application } });
  await tick();
  await fireEvent.keyDown(document.body, { key: ",", ctrlKey: true });
  return { ipc, kept: await screen.findByTestId("kept-memory") };
}

async function type(text: string): Promise<void> {
  await fireEvent.input(screen.getByTestId("memory-budget"), { target: { value: text } });
}

const disabled = (hook: string) => screen.getByTestId<HTMLButtonElement>(hook).disabled;

test("More opens the settings, too", async () => {
  const application = new Application(new HandDrivenIpc(), new HandDrivenFrames());
  await application.open();
  render(App, { props: { application } });
  await fireEvent.click(screen.getByTestId("menu"));
  await fireEvent.click(screen.getByTestId("settings"));
  expect(screen.getByText("Memory of conversations")).toBeTruthy();
});

describe("the memory of conversations", () => {
  test("says how much of the disk it takes", async () => {
    const { kept } = await openSettings();
    expect(kept.textContent.trim()).toBe("812 MB of 2 GB used");
    expect(screen.getByTestId<HTMLInputElement>("memory-budget").value).toBe("2");
    expect(disabled("save-budget"), "nothing was changed").toBe(true);
  });

  test("is freed, and says how many bytes went", async () => {
    const { kept } = await openSettings();
    await fireEvent.click(screen.getByTestId("free-memory"));
    await vi.waitFor(() =>
      expect(screen.getByTestId("freed-memory").textContent).toContain("812 MB were freed"),
    );
    expect(kept.textContent.trim()).toBe("0 bytes of 2 GB used");
    expect(disabled("free-memory"), "there is nothing more to free").toBe(true);
  });

  test("has a budget that is changed, and taken back to the default", async () => {
    const { kept } = await openSettings();
    await type("0.5");
    await fireEvent.click(screen.getByTestId("save-budget"));
    await vi.waitFor(() => expect(kept.textContent.trim()).toBe("500 MB of 500 MB used"));
    await fireEvent.click(screen.getByTestId("default-budget"));
    await vi.waitFor(() => expect(kept.textContent.trim()).toBe("500 MB of 2 GB used"));
    expect(screen.getByTestId<HTMLInputElement>("memory-budget").value).toBe("2");
    expect(screen.queryByTestId("default-budget")).toBeNull();
  });

  test("takes no budget that is no number, and says what one looks like", async () => {
    const { ipc } = await openSettings();
    const setting = vi.spyOn(ipc, "setMemoryBudget");
    await type("much");
    expect(disabled("save-budget")).toBe(true);
    expect(screen.getByText(/Write a number of gigabytes/u)).toBeTruthy();
    const form = screen.getByTestId("memory-budget").closest("form");
    if (form) await fireEvent.submit(form);
    expect(setting).not.toHaveBeenCalled();
  });

  test("keeps what was typed where it could not be set, and says why", async () => {
    const { ipc } = await openSettings();
    const error = new AppError({ code: "crashed", message: "the inference thread has ended" });
    vi.spyOn(ipc, "setMemoryBudget").mockRejectedValue(error);
    await type("4");
    await fireEvent.click(screen.getByTestId("save-budget"));
    expect((await screen.findByTestId("error")).dataset["code"]).toBe("crashed");
    expect(screen.getByTestId<HTMLInputElement>("memory-budget").value).toBe("4");
  });
});
