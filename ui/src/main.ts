import { mount } from "svelte";
import "@fontsource-variable/inter/wght.css";
import "@fontsource-variable/inter/wght-italic.css";
import "@fontsource-variable/jetbrains-mono/wght.css";
import "./app.css";
import type { Ipc } from "./lib/ipc";

interface Opening {
  ipc: Ipc;
  openingQuestion: string | null;
  showsLibrary: boolean;
}

/** Inside the window Rust answers; in a plain browser the fake does, in the state that the address names. */
async function connect(): Promise<Opening> {
  if ("__TAURI_INTERNALS__" in window) {
    const { tauriIpc } = await import("./lib/ipc");
    return { ipc: tauriIpc, openingQuestion: null, showsLibrary: false };
  }
  const { fakeFromAddress } = await import("./lib/ipc/fake");
  const fake = fakeFromAddress(location.search);
  return { ipc: fake, openingQuestion: fake.openingQuestion, showsLibrary: fake.showsLibrary };
}

const target = document.getElementById("app");
if (!target) throw new Error("index.html has no element with the id `app`");

const [{ ipc, openingQuestion, showsLibrary }, { default: App }, { Application }] =
  await Promise.all([connect(), import("./App.svelte"), import("./lib/state/application.svelte")]);
const application = new Application(ipc);
application.follow();
mount(App, { target, props: { application } });
await application.open();
if (showsLibrary) application.library.show();
if (openingQuestion !== null) await application.chat.say(openingQuestion);
