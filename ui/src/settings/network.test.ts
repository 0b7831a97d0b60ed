import { cleanup, fireEvent, render, screen } from "@testing-library/svelte";
import { afterEach, describe, expect, test, vi } from "vitest";
import { FakeIpc } from "../lib/ipc/fake";
import NetworkDialog from "./NetworkDialog.svelte";

afterEach(cleanup);

async function open() {
  const ipc = new FakeIpc("empty", () => Promise.resolve());
  const rendered = render(NetworkDialog, { props: { ipc, onclose: () => undefined } });
  await screen.findByTestId("offline");
  return { ipc, ...rendered };
}

const network = async (ipc: FakeIpc) => (await ipc.readNetwork()).choice;

test("offline is one switch, and it keeps the rest", async () => {
  const { ipc } = await open();
  await ipc.setNetwork({
    isOffline: false,
    mirror: null,
    proxy: "socks5://10.0.0.1:1080",
    catalog: null,
  });
  cleanup();
  render(NetworkDialog, { props: { ipc, onclose: () => undefined } });
  const offline = await screen.findByTestId<HTMLInputElement>("offline");
  await vi.waitFor(() => expect(offline.disabled).toBe(false));
  await fireEvent.click(offline);
  await vi.waitFor(async () =>
    expect(await network(ipc)).toEqual({
      isOffline: true,
      mirror: null,
      proxy: "socks5://10.0.0.1:1080",
      catalog: null,
    }),
  );
  await expect(ipc.searchHub("smollm")).rejects.toMatchObject({ code: "offline" });
});

test("a mirror is saved, and the one that is asked is named", async () => {
  const { ipc } = await open();
  expect(screen.getByTestId<HTMLButtonElement>("save-network").disabled).toBe(true);
  await fireEvent.input(screen.getByTestId("mirror"), {
    target: { value: " https://mirror.example " },
  });
  await fireEvent.click(screen.getByTestId("save-network"));
  await vi.waitFor(async () => expect((await network(ipc)).mirror).toBe("https://mirror.example"));
  expect(await screen.findByText("https://mirror.example")).toBeTruthy();
});

test("a mirror that may not be asked is refused, and stays in its field", async () => {
  const { ipc } = await open();
  const field = screen.getByTestId<HTMLInputElement>("mirror");
  await fireEvent.input(field, { target: { value: "http://mirror.example" } });
  await fireEvent.click(screen.getByTestId("save-network"));
  const error = await screen.findByTestId("error");
  expect(error.dataset["code"]).toBe("connectionUnsafe");
  expect(error.textContent).toContain("The settings are as they were.");
  expect(field.value).toBe("http://mirror.example");
  expect((await network(ipc)).mirror).toBeNull();
});

test("every request is listed with its host, purpose and bytes", async () => {
  const { ipc } = await open();
  expect(screen.getByTestId("requests").textContent).toContain("None has left this computer");
  await ipc.searchHub("smollm");
  await ipc.lookUpRepository("someone/small");
  cleanup();
  render(NetworkDialog, { props: { ipc, onclose: () => undefined } });
  const table = await screen.findByRole("table");
  const rows = [...table.querySelectorAll("tbody tr")].map((row) =>
    [...row.children].slice(1).map((cell) => cell.textContent.trim()),
  );
  expect(rows).toEqual([
    ["huggingface.co", "Look at a repository", "4 kB"],
    ["huggingface.co", "Search for models", "4 kB"],
  ]);
});

describe("the access token", () => {
  const state = () => screen.getByTestId("token-state").textContent;
  const field = () => screen.getByTestId<HTMLInputElement>("token");

  async function enter(text: string): Promise<void> {
    await fireEvent.input(field(), { target: { value: text } });
    await fireEvent.click(screen.getByTestId("save-token"));
  }

  test("is typed unseen, kept by the keychain, and gone from the window", async () => {
    const { ipc, container } = await open();
    await vi.waitFor(() => expect(state()).toContain("None is set."));
    expect(field().type).toBe("password");
    expect(screen.getByTestId<HTMLButtonElement>("save-token").disabled).toBe(true);
    await enter("hf_canary_of_a_token_1234");
    await vi.waitFor(() => expect(state()).toContain("It ends in “1234”."));
    expect(state()).toContain("keychain");
    expect(ipc.token.state).toEqual({ type: "set", lastFour: "1234", keeping: "keychain" });
    expect(field().value).toBe("");
    expect(new XMLSerializer().serializeToString(container.ownerDocument)).not.toContain("canary");
  });

  test("is removed", async () => {
    const { ipc } = await open();
    await enter("hf_canary_of_a_token_1234");
    await fireEvent.click(await screen.findByTestId("remove-token"));
    await vi.waitFor(() => expect(state()).toContain("None is set."));
    expect(ipc.token.state.type).toBe("unset");
    expect(screen.queryByTestId("remove-token")).toBeNull();
  });

  test("is kept for this run where there is no keychain, and only if that is wanted", async () => {
    const { ipc } = await open();
    ipc.token.hasKeychain = false;
    await enter("hf_canary_of_a_token_1234");
    const error = await screen.findByTestId("error");
    expect(error.dataset["code"]).toBe("keychainUnusable");
    expect(ipc.token.state.type).toBe("unset");
    expect(field().value, "what was typed is still there").toContain("canary");
    await fireEvent.click(screen.getByTestId("token-for-this-run"));
    await vi.waitFor(() => expect(state()).toContain("Set until Hearth ends."));
    expect(screen.queryByTestId("error")).toBeNull();
    await vi.waitFor(() => expect(field().value).toBe(""));
  });

  test.each([
    [{ type: "forgotten" } as const, "kept for one run only"],
    [{ type: "refused", lastFour: "1234" } as const, "did not accept the last one"],
  ])("that is no longer there is told of: %o", async (token, sentence) => {
    const ipc = new FakeIpc("empty", () => Promise.resolve());
    ipc.token.state = token;
    render(NetworkDialog, { props: { ipc, onclose: () => undefined } });
    await vi.waitFor(() => expect(state()).toContain(sentence));
    expect(screen.queryByTestId("remove-token"), "there is nothing to remove").toBeNull();
  });

  test("in a locked keychain can be asked for again", async () => {
    const ipc = new FakeIpc("empty", () => Promise.resolve());
    ipc.token.state = {
      type: "unreadable",
      error: { code: "keychainUnusable", message: "it is locked" },
    };
    render(NetworkDialog, { props: { ipc, onclose: () => undefined } });
    expect((await screen.findByTestId("error")).textContent).toContain("it is locked");
    ipc.token.state = { type: "set", lastFour: "", keeping: "keychain" };
    await fireEvent.click(screen.getByTestId("retry"));
    await vi.waitFor(() => expect(state()).toContain("Set, and kept by"));
    expect(state(), "of a very short one nothing is shown").not.toContain("ends in");
  });

  test("is not sent to a mirror, which is said", async () => {
    const { ipc } = await open();
    await ipc.setNetwork({
      isOffline: false,
      mirror: "https://mirror.example",
      proxy: null,
      catalog: null,
    });
    cleanup();
    render(NetworkDialog, { props: { ipc, onclose: () => undefined } });
    expect(await screen.findByText(/not to the mirror/u)).toBeTruthy();
  });
});

test("the address of a further list of models is saved with the others", async () => {
  const { ipc } = await open();
  await fireEvent.input(screen.getByTestId("list-address"), {
    target: { value: "https://lists.example/catalog.json" },
  });
  await fireEvent.click(screen.getByTestId("save-network"));
  await vi.waitFor(async () =>
    expect((await network(ipc)).catalog).toBe("https://lists.example/catalog.json"),
  );
});
