import { cleanup, fireEvent, render, screen, within } from "@testing-library/svelte";
import { tick } from "svelte";
import { afterEach, describe, expect, test, vi } from "vitest";
import App from "./App.svelte";
import type { ScenarioName } from "./lib/ipc/fakeScenarios";
import { Application } from "./lib/state/application.svelte";
import { HandDrivenFrames, HandDrivenIpc, newReply, started } from "./test/handDriven";

afterEach(cleanup);

async function open(scenario: ScenarioName = "empty") {
  const ipc = new HandDrivenIpc(scenario);
  const frames = new HandDrivenFrames();
  const application = new Application(ipc, frames);
  application.follow();
  await application.open();
  render(App, { props: { application } });
  await tick();
  const composer = screen.getByTestId<HTMLTextAreaElement>("composer");
  return { ipc, frames, application, composer };
}

async function type(composer: HTMLTextAreaElement, text: string): Promise<void> {
  await fireEvent.input(composer, { target: { value: text } });
}

describe("the composer", () => {
  test("Enter sends, and Stop takes the place of Send", async () => {
    const { ipc, composer } = await open();
    await type(composer, "hello");
    await fireEvent.keyDown(composer, { key: "Enter" });
    expect(ipc.calls).toEqual(["send hello"]);
    expect(screen.queryByTestId("send")).toBeNull();
    expect(screen.getByTestId("stop")).toBeTruthy();
  });

  test.each([
    ["Shift+Enter breaks the line", { key: "Enter", shiftKey: true }],
    ["Enter belongs to an input method that composes", { key: "Enter", isComposing: true }],
    ["Enter of an input method known by its code alone", { key: "Enter", keyCode: 229 }],
  ])("%s and does not send", async (_name, key) => {
    const { ipc, composer } = await open();
    await type(composer, "hello");
    await fireEvent.keyDown(composer, key);
    expect(ipc.calls).toEqual([]);
  });

  test("nothing but spaces cannot be sent", async () => {
    const { ipc, composer } = await open();
    await type(composer, "  \n ");
    await fireEvent.keyDown(composer, { key: "Enter" });
    expect(ipc.calls).toEqual([]);
    expect(screen.getByTestId<HTMLButtonElement>("send").disabled).toBe(true);
  });

  test("Esc stops the reply", async () => {
    const { ipc, composer } = await open();
    await type(composer, "hello");
    await fireEvent.keyDown(composer, { key: "Enter" });
    ipc.emit(started());
    await fireEvent.keyDown(composer, { key: "Escape" });
    expect(ipc.stops).toBe(1);
  });

  test("an error leaves the text in the field and says what to do", async () => {
    const { ipc, composer } = await open();
    await type(composer, "hello");
    await fireEvent.keyDown(composer, { key: "Enter" });
    ipc.fail("outOfMemory");
    const error = await screen.findByTestId("error");
    expect(error.dataset["code"]).toBe("outOfMemory");
    expect(composer.value).toBe("hello");
    expect(within(error).getByTestId("retry")).toBeTruthy();
  });

  test("a loading model lets one type on and says that Send waits", async () => {
    const { ipc, composer } = await open("loading");
    expect(screen.getByText(/Send waits until it is ready/u)).toBeTruthy();
    await type(composer, "hello");
    await fireEvent.click(screen.getByTestId("send"));
    expect(screen.getByText(/Sends by itself as soon as Ember is ready/u)).toBeTruthy();
    ipc.finishLoading();
    await vi.waitFor(() => expect(ipc.calls).toEqual(["send hello"]));
  });

  test("a model that is being prepared says how far it is and can do without", async () => {
    await open("preparing");
    expect(screen.getByText(/Preparing Ember for this machine, once: step 4 of 8/u)).toBeTruthy();
    await fireEvent.click(screen.getByTestId("skip-preparation"));
    await tick();
    expect(screen.getByText(/Ember is loading/u)).toBeTruthy();
    expect(screen.queryByTestId("skip-preparation")).toBeNull();
  });

  test("a message that is too long says by how much", async () => {
    const { application, composer } = await open("tooLong");
    await type(composer, "word ".repeat(250));
    await application.chat.draft.measure();
    await tick();
    expect(screen.getByText(/Too long by 113 tokens/u)).toBeTruthy();
  });
});

describe("the conversation", () => {
  test("a suggestion sends itself", async () => {
    const { ipc } = await open();
    const [first] = screen.getAllByTestId("suggestion");
    if (first) await fireEvent.click(first);
    expect(ipc.calls).toEqual(["send My name is Ada."]);
  });

  test("the words of a reply appear before it ends", async () => {
    const { ipc, frames, composer } = await open();
    await type(composer, "hello");
    await fireEvent.keyDown(composer, { key: "Enter" });
    ipc.emit(started());
    ipc.emit({ type: "prefill", done: 3412, total: 5120, reused: 0 });
    frames.next();
    await tick();
    expect(screen.getByTestId("reply").dataset["status"]).toBe("reading");
    expect(screen.getByText(/Reading 3,412 of 5,120 tokens/u)).toBeTruthy();
    ipc.emit({ type: "text", text: "Hello, **Ad", tokens: 1 });
    frames.next();
    await tick();
    expect(screen.getByTestId("reply").dataset["status"]).toBe("writing");
    expect(screen.getByTestId("reply").querySelector("strong")?.textContent).toBe("Ad");
  });

  test("a stopped reply says so and can be continued", async () => {
    const { ipc } = await open("stopped");
    expect(screen.getByText("Stopped")).toBeTruthy();
    await fireEvent.click(screen.getByTestId("continue"));
    expect(ipc.calls).toEqual(["continue"]);
  });

  test("a failed reply keeps its text and offers to retry", async () => {
    const { ipc, composer } = await open();
    await type(composer, "hello");
    await fireEvent.keyDown(composer, { key: "Enter" });
    ipc.emit(started());
    const error = { code: "crashed", message: "NaN in the logits" } as const;
    ipc.resolve(newReply({ text: "Hel", status: { type: "failed", error } }));
    const shown = await screen.findByTestId("error");
    expect(screen.getByTestId("reply").textContent).toContain("Hel");
    expect(shown.textContent).toContain("NaN in the logits");
    await fireEvent.click(within(shown).getByTestId("retry"));
    expect(ipc.calls).toEqual(["send hello", "retry"]);
  });

  test("only the last reply can be made again", async () => {
    await open("conversation");
    expect(screen.getAllByTestId("reply")).toHaveLength(2);
    expect(screen.getAllByTestId("regenerate")).toHaveLength(1);
  });

  test("a reset puts its divider and mutes what the model no longer sees", async () => {
    await open("conversation");
    await fireEvent.click(screen.getByTestId("reset"));
    expect((await screen.findByTestId("divider")).textContent).toContain("Memory reset");
    expect(screen.getByText("The model no longer sees anything above")).toBeTruthy();
    expect(document.querySelectorAll(".forgotten")).toHaveLength(4);
    expect(screen.getByTestId<HTMLButtonElement>("reset").disabled).toBe(true);
  });

  test("the status line tells speed and memory, and opens the details", async () => {
    await open("conversation");
    const status = screen.getByTestId("status");
    expect(status.textContent.trim()).toBe("74 tok/s · 1,204 reused, 31 read · first token 0.2 s");
    await fireEvent.click(status);
    expect(screen.getByText("Reply details")).toBeTruthy();
  });

  test("a link is opened only after its dialog", async () => {
    const { ipc } = await open("conversation");
    await fireEvent.click(screen.getByRole("link"));
    expect(ipc.openedLinks).toEqual([]);
    expect(screen.getByTestId("link-dialog").textContent).toContain("doc.rust-lang.org");
    await fireEvent.click(screen.getByTestId("open-link"));
    expect(ipc.openedLinks).toEqual([
      "https://doc.rust-lang.org/std/io/trait.BufRead.html#method.lines",
    ]);
  });

  test("a runtime that cannot be used is explained where one would send", async () => {
    await open("runtimeMissing");
    const error = screen.getByTestId("error");
    expect(error.dataset["code"]).toBe("runtimeMissing");
    expect(error.textContent).toContain("libonnxruntime.so.1");
  });

  test("a notice can be dismissed", async () => {
    await open("notices");
    const [notice] = screen.getAllByTestId("notice");
    if (notice) await fireEvent.click(within(notice).getByRole("button"));
    expect(screen.getAllByTestId("notice")).toHaveLength(1);
  });
});

describe("the model picker by keyboard", () => {
  async function openPicker() {
    const window = await open("conversation");
    await fireEvent.keyDown(document.body, { key: "k", ctrlKey: true });
    const field = screen.getByRole<HTMLInputElement>("combobox");
    const key = (name: string) => fireEvent.keyDown(field, { key: name });
    const active = () =>
      document.querySelector<HTMLElement>("[role=option][aria-selected=true]")?.dataset["modelId"];
    return { ...window, field, key, active };
  }

  test("opens on the selected model with the focus in its filter", async () => {
    const { field, active } = await openPicker();
    expect(document.activeElement).toBe(field);
    expect(active()).toBe("ember");
  });

  test("arrows go round", async () => {
    const { key, active } = await openPicker();
    await key("ArrowDown");
    expect(active()).toBe("qwen2.5-0.5b-instruct");
    await key("ArrowUp");
    await key("ArrowUp");
    expect(screen.getByTestId("browse-models").getAttribute("aria-selected")).toBe("true");
    await key("ArrowUp");
    expect(active()).toBe("phi-broken");
    await key("ArrowDown");
    await key("ArrowDown");
    expect(active()).toBe("ember");
  });

  test("Enter chooses what is marked, whatever came to the list meanwhile", async () => {
    const { application, key, active } = await openPicker();
    await key("ArrowDown");
    const { list, selectedId } = application.models;
    const [first] = list;
    if (!first) throw new Error("the scenario has models");
    application.models.apply({
      models: [{ ...first, id: "newcomer", state: { type: "available" } }, ...list],
      selectedModel: selectedId,
    });
    await vi.waitFor(() =>
      expect(screen.getAllByTestId("picker-option")).toHaveLength(list.length + 1),
    );
    expect(active()).toBe("qwen2.5-0.5b-instruct");
    await key("Enter");
    await vi.waitFor(() => expect(application.models.selected?.id).toBe("qwen2.5-0.5b-instruct"));
  });

  test("typing filters and Enter loads what is left", async () => {
    const { application, field, key } = await openPicker();
    await fireEvent.input(field, { target: { value: "SMOL" } });
    expect(screen.getAllByTestId("picker-option")).toHaveLength(1);
    await key("Enter");
    await vi.waitFor(() => expect(application.models.selected?.id).toBe("smollm2-135m"));
    await vi.waitFor(() => expect(application.models.isReady).toBe(true));
    expect(screen.queryByRole("combobox")).toBeNull();
  });

  test("a filter without a match says so and Enter does nothing", async () => {
    const { application, field, key } = await openPicker();
    await fireEvent.input(field, { target: { value: "zzz" } });
    expect(screen.getByText(/No model matches/u)).toBeTruthy();
    await key("Enter");
    expect(application.models.selectedId).toBe("ember");
  });

  test("Esc closes it without stopping anything, and the focus returns to the message", async () => {
    const { ipc, application, key, composer } = await openPicker();
    void application.chat.say("hello");
    ipc.emit(started());
    await key("Escape");
    expect(screen.queryByRole("combobox")).toBeNull();
    expect(ipc.stops).toBe(0);
    expect(document.activeElement).toBe(composer);
  });

  test("each model shows its state, a failed one with its sentence", async () => {
    await openPicker();
    const states = screen
      .getAllByTestId("picker-option")
      .map((option) => [option.dataset["modelId"], option.dataset["state"]]);
    expect(states).toContainEqual(["ember", "ready"]);
    expect(states).toContainEqual(["phi-broken", "failed"]);
    expect(screen.getByText(/one of its files is damaged/u)).toBeTruthy();
  });

  test("while a reply is written the model cannot be changed", async () => {
    const { ipc, application, key } = await openPicker();
    void application.chat.say("hello");
    ipc.emit(started());
    await key("ArrowDown");
    await key("Enter");
    expect(application.models.selectedId).toBe("ember");
    expect(screen.getByText(/Stop it to change the model/u)).toBeTruthy();
  });
});
