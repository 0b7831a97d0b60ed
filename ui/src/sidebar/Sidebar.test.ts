import { cleanup, fireEvent, render, screen, within } from "@testing-library/svelte";
import { tick } from "svelte";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import App from "../App.svelte";
import type { ScenarioName } from "../lib/ipc/fakeScenarios";
import { Application } from "../lib/state/application.svelte";
import { HandDrivenFrames, HandDrivenIpc, started } from "../test/handDriven";

afterEach(cleanup);
beforeEach(() => localStorage.clear());

async function open(scenario: ScenarioName = "conversations") {
  const ipc = new HandDrivenIpc(scenario);
  const application = new Application(ipc, new HandDrivenFrames());
  application.follow();
  await application.open();
  render(App, { props: { application } });
  await tick();
  return { ipc, application };
}

const rows = () => screen.getAllByTestId("conversation");
const shownRow = () => document.querySelector<HTMLElement>("[aria-current=page]");
const row = (id: string) => {
  const found = document.querySelector<HTMLElement>(`[data-conversation="${id}"]`);
  if (!found) throw new Error(`no row for ${id}`);
  return found;
};
const key = (name: string, more = {}) =>
  fireEvent.keyDown(document.activeElement ?? document.body, { key: name, ...more });

async function openMenu(id: string): Promise<void> {
  const item = row(id).closest("li");
  if (item) await fireEvent.click(within(item).getByTestId("conversation-menu"));
}

describe("the list of conversations", () => {
  test("has the pinned ones first, then the days, and marks the shown one", async () => {
    const { application } = await open();
    const headings = screen
      .getAllByRole("heading", { level: 2 })
      .map((heading) => heading.textContent);
    expect(headings.slice(0, 2)).toEqual(["Pinned", "Today"]);
    expect(rows()[0]?.textContent).toContain("Bread without an oven");
    expect(shownRow()?.dataset["conversation"]).toBe(application.chat.id);
  });

  test("of thousands has elements for those that can be seen", async () => {
    await open("thousands");
    expect(rows().length).toBeLessThan(60);
  });

  test("a press opens a conversation and the message field has the focus", async () => {
    const { application } = await open();
    await fireEvent.click(row("earlier-4"));
    await vi.waitFor(() => expect(application.chat.id).toBe("earlier-4"));
    await tick();
    expect(shownRow()?.dataset["conversation"]).toBe("earlier-4");
    expect(document.activeElement).toBe(screen.getByTestId("composer"));
  });

  test("Tab reaches one row, the arrows the others", async () => {
    await open();
    const reachable = [...document.querySelectorAll<HTMLElement>("[data-conversation]")].filter(
      (button) => button.tabIndex === 0,
    );
    expect(reachable).toHaveLength(1);
    row("earlier-0").focus();
    await key("ArrowDown");
    expect(document.activeElement).toBe(row("earlier-1"));
    await key("ArrowUp");
    expect(document.activeElement).toBe(row("earlier-0"));
  });

  test("F2 renames in place; Enter keeps the title, and the focus returns to the row", async () => {
    await open();
    row("earlier-1").focus();
    await key("F2");
    const field = screen.getByTestId<HTMLInputElement>("rename-title");
    expect(document.activeElement).toBe(field);
    await fireEvent.input(field, { target: { value: "Crackling" } });
    await fireEvent.keyDown(field, { key: "Enter" });
    await vi.waitFor(() => expect(row("earlier-1").textContent).toContain("Crackling"));
    await vi.waitFor(() => expect(document.activeElement).toBe(row("earlier-1")));
  });

  test("Esc leaves the title as it was", async () => {
    const { ipc } = await open();
    const renaming = vi.spyOn(ipc, "renameConversation");
    row("earlier-1").focus();
    await key("F2");
    const field = screen.getByTestId("rename-title");
    await fireEvent.input(field, { target: { value: "Crackling" } });
    await fireEvent.keyDown(field, { key: "Escape" });
    await vi.waitFor(() => expect(document.activeElement).toBe(row("earlier-1")));
    expect(renaming).not.toHaveBeenCalled();
  });

  test("Delete takes a conversation away, goes to the next one, and offers Undo", async () => {
    await open();
    row("earlier-1").focus();
    await key("Delete");
    const toast = await screen.findByTestId("toast");
    expect(document.querySelector("[data-conversation=earlier-1]")).toBeNull();
    await fireEvent.click(within(toast).getByText("Undo"));
    await vi.waitFor(() => expect(row("earlier-1")).toBeTruthy());
  });

  test.each([
    ["rename", () => screen.getByTestId("rename-title")],
    ["export-markdown", () => screen.getByText(/was exported to .*\.md/u)],
    ["export-json", () => screen.getByText(/was exported to .*\.json/u)],
    ["delete", () => screen.getByText(/^The conversation was deleted/u)],
  ])("its menu does %s", async (item, outcome) => {
    await open();
    await openMenu("earlier-4");
    await fireEvent.click(screen.getByTestId(item));
    await vi.waitFor(() => expect(outcome()).toBeTruthy());
    expect(screen.queryByRole("menu")).toBeNull();
  });

  test("its menu pins and unpins", async () => {
    const { application } = await open();
    const isPinned = () =>
      application.conversations.list.find(({ id }) => id === "earlier-4")?.pinned;
    await openMenu("earlier-4");
    await fireEvent.click(screen.getByText("Pin"));
    await vi.waitFor(() => expect(isPinned()).toBe(true));
    await tick();
    await openMenu("earlier-4");
    await fireEvent.click(screen.getByText("Unpin"));
    await vi.waitFor(() => expect(isPinned()).toBe(false));
  });

  test("Esc closes the menu and the focus returns to its button", async () => {
    const { ipc } = await open();
    await openMenu("earlier-4");
    expect((document.activeElement as HTMLElement).dataset["testid"]).toBe("rename");
    await key("Escape");
    expect(screen.queryByRole("menu")).toBeNull();
    expect((document.activeElement as HTMLElement).dataset["testid"]).toBe("conversation-menu");
    expect(ipc.stops).toBe(0);
  });

  test("a reply that runs in another conversation is seen in the list", async () => {
    const { ipc, application } = await open();
    const { id } = application.chat;
    void application.chat.say("hello");
    ipc.emit(started());
    await application.conversations.open("earlier-4");
    await tick();
    expect(row(id).textContent).toContain("A reply is being written in");
    expect(row("earlier-4").textContent).not.toContain("A reply is being written in");
  });
});

describe("new conversations", () => {
  test("Ctrl+N begins one with an empty message field", async () => {
    const { application } = await open();
    const before = application.chat.id;
    await key("n", { ctrlKey: true });
    await vi.waitFor(() => expect(application.chat.id).not.toBe(before));
    expect(screen.getAllByTestId("suggestion")).toHaveLength(3);
    expect(document.activeElement).toBe(screen.getByTestId("composer"));
  });

  test("a private one says what that means", async () => {
    await open();
    expect(screen.queryByTestId("private")).toBeNull();
    await fireEvent.click(screen.getByText("Private conversation"));
    expect((await screen.findByTestId("private")).textContent).toContain(
      "nothing of this conversation is written to the disk",
    );
  });
});

describe("the search", () => {
  async function search(words: string) {
    const window = await open();
    await key("F", { ctrlKey: true, shiftKey: true });
    await tick();
    const field = screen.getByTestId<HTMLInputElement>("search");
    expect(document.activeElement).toBe(field);
    await fireEvent.input(field, { target: { value: words } });
    await vi.waitFor(() => expect(screen.queryAllByTestId("search-hit").length).toBeGreaterThan(0));
    return { ...window, field };
  }

  test("shows titles and marked words in the place of the list", async () => {
    await search("grey cat");
    expect(screen.queryByTestId("conversations")).toBeNull();
    const [hit] = screen.getAllByTestId("search-hit");
    expect(hit?.querySelector("mark")?.textContent).toBe("grey cat");
  });

  test("Enter opens the first result at its message", async () => {
    const { application, field } = await search("grey cat");
    await fireEvent.keyDown(field, { key: "Enter" });
    await vi.waitFor(() => expect(application.chat.id).toBe("earlier-4"));
    await vi.waitFor(() =>
      expect((document.activeElement as HTMLElement).dataset["entry"]).toBe("earlier-4-q"),
    );
    expect(application.chat.target).toBeNull();
  });

  test("the arrows go through the results and back to the field", async () => {
    const { field } = await search("fibres");
    const hits = screen.getAllByTestId("search-hit");
    await fireEvent.keyDown(field, { key: "ArrowDown" });
    expect(document.activeElement).toBe(hits[0]);
    await key("ArrowDown");
    expect(document.activeElement).toBe(hits[1]);
    await key("ArrowUp");
    await key("ArrowUp");
    expect(document.activeElement).toBe(field);
  });

  test("Esc leaves it for the message field and stops nothing", async () => {
    const { ipc, field } = await search("fibres");
    await fireEvent.keyDown(field, { key: "Escape" });
    expect(screen.getByTestId("conversations")).toBeTruthy();
    expect(document.activeElement).toBe(screen.getByTestId("composer"));
    expect(ipc.stops).toBe(0);
  });

  test("what is found nowhere says so", async () => {
    const { field } = await search("fibres");
    await fireEvent.input(field, { target: { value: "zzzz" } });
    expect(await screen.findByText("Nothing found")).toBeTruthy();
  });
});

describe("the sidebar itself", () => {
  test("hides and is hidden at the next start, too", async () => {
    await open();
    await key("b", { ctrlKey: true });
    expect(screen.queryByTestId("sidebar")).toBeNull();
    cleanup();
    await open();
    expect(screen.queryByTestId("sidebar")).toBeNull();
    await fireEvent.click(screen.getByTestId("show-sidebar"));
    expect(screen.getByTestId("sidebar")).toBeTruthy();
  });
});

describe("the menu of the window", () => {
  test("imports, and says what came of it", async () => {
    await open();
    await fireEvent.click(screen.getByTestId("menu"));
    await fireEvent.click(screen.getByText("Import conversations"));
    expect(await screen.findByText(/12 conversations imported/u)).toBeTruthy();
  });

  test("the system prompt of the conversation is changed in its dialog", async () => {
    const { application } = await open();
    await fireEvent.click(screen.getByTestId("menu"));
    await fireEvent.click(screen.getByTestId("open-system-prompt"));
    const field = screen.getByTestId("system-prompt");
    await fireEvent.input(field, { target: { value: "Answer in French." } });
    await fireEvent.click(screen.getByTestId("save-system-prompt"));
    await vi.waitFor(() => expect(application.chat.systemPrompt).toBe("Answer in French."));
    await vi.waitFor(() => expect(screen.queryByTestId("system-prompt")).toBeNull());
  });
});
