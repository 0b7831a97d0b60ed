import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, beforeEach, expect } from "vitest";
import { scenario } from "./scenario";
import type { HearthWindow } from "./window";

/** Counts every request that reaches this machine's own address: none may. */
let server: Server;
let address: string;
const requests: string[] = [];

beforeAll(async () => {
  server = createServer((request, response) => {
    requests.push(`${request.method} ${request.url}`);
    response.setHeader("Access-Control-Allow-Origin", "*").end("reached");
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  // Proves that the count can fail: from outside the window the address answers.
  // eslint-disable-next-line no-restricted-syntax -- This request comes from the test, not from the window.
  await fetch(`${address}/control`);
  expect(requests).toEqual(["GET /control"]);
});

beforeEach(() => {
  requests.length = 0;
});

afterAll(async () => {
  server.closeAllConnections();
  server.close();
  await once(server, "close");
});

/** Ways by which a page reaches out; each gets the address. They are run inside the window. */
const REQUESTS: Record<string, string> = {
  fetch: "fetch(url).catch(() => {})",
  XMLHttpRequest: "const r = new XMLHttpRequest(); r.open('GET', url); r.send()",
  WebSocket: "new WebSocket(url.replace('http', 'ws'))",
  EventSource: "new EventSource(url)",
  sendBeacon: "navigator.sendBeacon(url)",
  image: "new Image().src = url",
  script: "document.head.append(Object.assign(document.createElement('script'), { src: url }))",
  "style sheet":
    "document.head.append(Object.assign(document.createElement('link'), { rel: 'stylesheet', href: url }))",
  frame: "document.body.append(Object.assign(document.createElement('iframe'), { src: url }))",
  object: "document.body.append(Object.assign(document.createElement('object'), { data: url }))",
  video: "document.body.append(Object.assign(document.createElement('video'), { src: url }))",
  font: "new FontFace('probe', `url(${url})`).load().catch(() => {})",
};

/** Ways by which a page goes elsewhere. */
const NAVIGATIONS: Record<string, string> = {
  "location.href": "location.href = url",
  "location.replace": "location.replace(url)",
  "window.open": "window.open(url)",
  "window.open in place": "window.open(url, '_self')",
  link: "const a = Object.assign(document.createElement('a'), { href: url }); document.body.append(a); a.click()",
  "link to a new window":
    "const a = Object.assign(document.createElement('a'), { href: url, target: '_blank' }); document.body.append(a); a.click()",
  download:
    "const a = Object.assign(document.createElement('a'), { href: url, download: 'x' }); document.body.append(a); a.click()",
  form: "const f = Object.assign(document.createElement('form'), { action: url }); document.body.append(f); f.submit()",
  "meta refresh":
    "document.head.append(Object.assign(document.createElement('meta'), { httpEquiv: 'refresh', content: `0;url=${url}` }))",
};

/**
 * Runs `body` in the page and gives what it started time to happen. That nothing happens can only be seen by
 * waiting; half a second is many times what a request to the own machine needs.
 */
async function attempt(window: HearthWindow, body: string, url: string): Promise<void> {
  await window.driver.executeAsyncScript(
    `const [url, done] = arguments;
     try { (() => { ${body} })(); } catch { /* refused at once, which is as good */ }
     setTimeout(done, 500);`,
    url,
  );
}

scenario("no request leaves the window", async ({ open }) => {
  const window = await open();
  for (const [name, body] of Object.entries(REQUESTS)) {
    await attempt(window, body, `${address}/${encodeURIComponent(name)}`);
  }
  expect(requests).toEqual([]);
});

scenario("nothing takes the window elsewhere or opens another one", async ({ open }) => {
  const window = await open();
  const home = await window.driver.getCurrentUrl();
  await window.driver.executeScript("window.stillHere = true");
  for (const [name, body] of Object.entries(NAVIGATIONS)) {
    await attempt(window, body, `${address}/${encodeURIComponent(name)}`);
    expect(await window.driver.getCurrentUrl(), name).toBe(home);
    expect(await window.driver.executeScript("return window.stillHere"), name).toBe(true);
    expect(await window.driver.getAllWindowHandles(), name).toHaveLength(1);
  }
  expect(requests).toEqual([]);
});
