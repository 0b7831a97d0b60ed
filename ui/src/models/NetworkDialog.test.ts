import { cleanup, fireEvent, render, screen } from "@testing-library/svelte";
import { afterEach, expect, test, vi } from "vitest";
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
  await ipc.setNetwork({ isOffline: false, mirror: null, proxy: "socks5://10.0.0.1:1080" });
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
