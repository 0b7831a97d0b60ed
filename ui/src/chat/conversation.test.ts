import { cleanup, fireEvent, render, screen } from "@testing-library/svelte";
import { tick } from "svelte";
import { afterEach, describe, expect, test, vi } from "vitest";
import App from "../App.svelte";
import { AppError } from "../lib/ipc/errors";
import type { ScenarioName } from "../lib/ipc/fakeScenarios";
import { Application } from "../lib/state/application.svelte";
import { HandDrivenFrames, HandDrivenIpc, started } from "../test/handDriven";

afterEach(cleanup);

async function open(scenario: ScenarioName) {
  const ipc = new HandDrivenIpc(scenario);
  const frames = new HandDrivenFrames();
  const application = new Application(ipc, frames);
  application.follow();
  await application.open();
  frames.draw();
  render(App, { props: { application } });
  await tick();
  return { ipc, application };
}

async function edit(): Promise<HTMLTextAreaElement> {
  const [button] = screen.getAllByTestId("edit");
  if (button) await fireEvent.click(button);
  return screen.getByTestId<HTMLTextAreaElement>("edit-field");
}

describe("a message that is edited in place", () => {
  test("has its text and the focus, and Enter sends the new version", async () => {
    const { ipc } = await open("conversation");
    const editing = vi.spyOn(ipc, "editMessage");
    const field = await edit();
    expect(field.value).toBe("My name is Ada.");
    expect(document.activeElement).toBe(field);
    await fireEvent.input(field, { target: { value: "My name is Eve." } });
    await fireEvent.keyDown(field, { key: "Enter" });
    expect(editing.mock.lastCall?.slice(1, 3)).toEqual(["q1", "My name is Eve."]);
    await vi.waitFor(() => expect(screen.getByText("2 of 2")).toBeTruthy());
    expect(screen.queryByTestId("edit-field")).toBeNull();
  });

  test("Esc leaves it as it was, stops nothing, and returns the focus", async () => {
    const { ipc } = await open("conversation");
    const editing = vi.spyOn(ipc, "editMessage");
    const field = await edit();
    await fireEvent.input(field, { target: { value: "My name is Eve." } });
    await fireEvent.keyDown(field, { key: "Escape" });
    await tick();
    expect(screen.getByText("My name is Ada.", { selector: "p" })).toBeTruthy();
    expect(editing).not.toHaveBeenCalled();
    expect(ipc.stops).toBe(0);
    await vi.waitFor(() =>
      expect((document.activeElement as HTMLElement).dataset["testid"]).toBe("edit"),
    );
  });

  test("what could not be sent is still in its field, and the error says why", async () => {
    const { ipc } = await open("conversation");
    const error = new AppError({ code: "diskFull", message: "no space left on `/data`" });
    vi.spyOn(ipc, "editMessage").mockRejectedValue(error);
    const field = await edit();
    await fireEvent.input(field, { target: { value: "My long and careful text." } });
    await fireEvent.keyDown(field, { key: "Enter" });
    expect((await screen.findByTestId("error")).dataset["code"]).toBe("diskFull");
    expect(screen.getByTestId<HTMLTextAreaElement>("edit-field").value).toBe(
      "My long and careful text.",
    );
  });

  test("nothing cannot be sent", async () => {
    await open("conversation");
    const field = await edit();
    await fireEvent.input(field, { target: { value: " " } });
    expect(screen.getByTestId<HTMLButtonElement>("send-edit").disabled).toBe(true);
  });
});

describe("versions", () => {
  test("say which one is shown, and the arrows ask for the others", async () => {
    const { ipc } = await open("versions");
    const selecting = vi.spyOn(ipc, "selectBranch");
    expect(screen.getByText("2 of 2")).toBeTruthy();
    expect(screen.getByText("2 of 3")).toBeTruthy();
    const [ofQuestion, ofReply] = screen.getAllByTestId<HTMLButtonElement>("next-version");
    expect(ofQuestion?.disabled).toBe(true);
    if (ofReply) await fireEvent.click(ofReply);
    expect(selecting.mock.lastCall?.[1]).toBe("r7");
  });

  test("the focus stays on the arrows, whose version is another", async () => {
    await open("conversation");
    const field = await edit();
    await fireEvent.input(field, { target: { value: "My name is Eve." } });
    await fireEvent.keyDown(field, { key: "Enter" });
    const arrow = await screen.findByTestId("previous-version");
    await vi.waitFor(() => expect((arrow as HTMLButtonElement).disabled).toBe(false));
    arrow.focus();
    await fireEvent.click(arrow);
    expect(await screen.findByText("1 of 2")).toBeTruthy();
    await vi.waitFor(() =>
      expect((document.activeElement as HTMLElement).dataset["testid"]).toBe("next-version"),
    );
  });

  test("a message with one version has no arrows", async () => {
    await open("conversation");
    expect(screen.queryByTestId("versions")).toBeNull();
  });

  test("while a reply is written neither versions nor messages can be changed", async () => {
    const { ipc, application } = await open("versions");
    void application.chat.say("hello");
    ipc.emit(started());
    await tick();
    for (const button of screen.getAllByTestId<HTMLButtonElement>("edit")) {
      expect(button.disabled).toBe(true);
    }
    for (const button of screen.getAllByTestId<HTMLButtonElement>("previous-version")) {
      expect(button.disabled).toBe(true);
    }
  });
});

describe("what the model sees", () => {
  test("a reset is taken back in its line", async () => {
    await open("reset");
    await fireEvent.click(screen.getByText("Undo"));
    await vi.waitFor(() => expect(screen.queryByText(/Memory reset/u)).toBeNull());
    expect(document.querySelectorAll(".forgotten")).toHaveLength(0);
  });

  test("a full window leaves its line", async () => {
    await open("contextLine");
    expect(screen.getByText("The model no longer sees anything above")).toBeTruthy();
    expect(document.querySelectorAll(".forgotten")).toHaveLength(2);
  });

  test("the meter tells what is used and opens its details", async () => {
    await open("contextLine");
    const meter = await screen.findByTestId("context");
    expect(meter.textContent).toMatch(/\d+ of 2,048 tokens used/u);
    await fireEvent.click(meter);
    expect(screen.getByText("Kept free for the reply")).toBeTruthy();
    expect(screen.getByText(/what stands below the line/u)).toBeTruthy();
  });

  test("a long draft tells its tokens and how long reading it takes", async () => {
    const { application } = await open("conversation");
    await fireEvent.input(screen.getByTestId("composer"), { target: { value: "x".repeat(3200) } });
    await application.chat.draft.measure();
    await tick();
    expect(screen.getByText(/800 tokens in this message · about 2\.0 s to read/u)).toBeTruthy();
  });

  test("an interrupted reply says so and goes on", async () => {
    const { ipc } = await open("interrupted");
    expect(screen.getByText("Hearth was closed before the reply had ended")).toBeTruthy();
    await fireEvent.click(screen.getByText("Continue"));
    expect(ipc.calls).toEqual(["continue"]);
  });
});

/** All entries are there, which takes many frames. */
function isWhole(application: Application): Promise<void> {
  const all = application.chat.entries.length;
  const check = () => expect(document.querySelectorAll("[data-entry]")).toHaveLength(all);
  return vi.waitFor(check, { timeout: 30_000 });
}

describe("a long conversation", () => {
  const shown = () =>
    [...document.querySelectorAll<HTMLElement>("[data-entry]")].map(
      ({ dataset }) => dataset["entry"],
    );

  test("shows its end at once, and what stands above it after the next frames", async () => {
    const { application } = await open("thousands");
    const entries = application.chat.entries.map(({ id }) => id);
    expect(shown().length).toBeLessThan(entries.length / 2);
    expect(shown()).toEqual(entries.slice(-shown().length));
    expect(screen.queryByTestId("load-earlier")).toBeNull();
    await isWhole(application);
    expect(shown()).toEqual(entries);
    expect(screen.getByTestId("load-earlier")).toBeTruthy();
  });

  test("has all that comes below while the rest is still missing", async () => {
    const { ipc, application } = await open("thousands");
    const before = shown();
    void application.chat.say("hello");
    ipc.emit(started());
    await tick();
    expect(shown().slice(-2)).toEqual(application.chat.entries.slice(-2).map(({ id }) => id));
    expect(shown().length).toBeGreaterThanOrEqual(before.length);
    await isWhole(application);
    expect(shown()).toEqual(application.chat.entries.map(({ id }) => id));
  });

  test("is there as a whole where a message far up was searched for", async () => {
    const { application } = await open("thousands");
    const { id, entries } = application.chat;
    const [first] = entries;
    if (first) await application.conversations.open(id, first.id);
    await tick();
    expect(shown()).toEqual(application.chat.entries.map((entry) => entry.id));
    expect(document.activeElement).toBe(document.querySelector(`[data-entry="${first?.id}"]`));
  });
});

test("earlier messages come by their button, and the end stays the end", async () => {
  const { application } = await open("thousands");
  await isWhole(application);
  const before = screen.getAllByTestId("question").length;
  await fireEvent.click(screen.getByTestId("load-earlier"));
  await vi.waitFor(() => expect(screen.getAllByTestId("question").length).toBe(2 * before));
});

describe("a pinned message", () => {
  const labels = () =>
    screen.getAllByTestId("pin-message").map((pin) => pin.getAttribute("aria-label"));

  test("says so, and is unpinned by the same button", async () => {
    const { application } = await open("conversation");
    const [pin] = screen.getAllByTestId("pin-message");
    if (pin) await fireEvent.click(pin);
    await vi.waitFor(() =>
      expect(screen.getByTestId("pin-mark").textContent.trim()).toBe("Pinned"),
    );
    expect(labels()[0]).toBe("Unpin message");
    if (pin) await fireEvent.click(pin);
    await vi.waitFor(() => expect(screen.queryByTestId("pin-mark")).toBeNull());
    expect(application.chat.failure).toBeNull();
  });

  test("above the line is marked as still seen, a reply with its question", async () => {
    await open("pinned");
    const muted = [...document.querySelectorAll<HTMLElement>(".forgotten")];
    expect(muted.map(({ dataset }) => dataset["entry"])).toEqual(["r1"]);
    expect(screen.getAllByTestId("pin-mark").map((mark) => mark.textContent.trim())).toEqual([
      "Pinned, the model still sees it",
      "The model still sees it, with its pinned reply",
      "Pinned, the model still sees it",
    ]);
    expect(screen.getByTestId("divider").textContent.trim()).toBe(
      "The model no longer sees anything above but what is pinned",
    );
  });

  test("that cannot be pinned stays as it was, and the error says why", async () => {
    const { ipc } = await open("conversation");
    const error = new AppError({ code: "diskFull", message: "no space left on `/data`" });
    vi.spyOn(ipc, "pinMessage").mockRejectedValue(error);
    const [pin] = screen.getAllByTestId("pin-message");
    if (pin) await fireEvent.click(pin);
    expect((await screen.findByTestId("error")).dataset["code"]).toBe("diskFull");
    expect(labels()[0]).toBe("Pin message");
  });
});
