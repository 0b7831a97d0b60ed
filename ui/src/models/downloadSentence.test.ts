import { expect, test } from "vitest";
import type { Download } from "../lib/ipc";
import { downloadSentence, downloadShare } from "./downloadSentence";

const download = (state: Download["state"], changes: Partial<Download> = {}): Download => ({
  id: "small@c0ffee",
  title: "Small",
  kind: "download",
  doneBytes: 250_000_000,
  totalBytes: 1_000_000_000,
  state,
  ...changes,
});

const coming = (bytesPerSecond: number, secondsLeft: number | null) =>
  download({ type: "downloading", bytesPerSecond, secondsLeft });

test.each([
  [coming(2_000_000, 375), "Downloading · 250 MB of 1 GB · 2 MB/s · 6 min left"],
  [coming(2_000_000, 7000), "Downloading · 250 MB of 1 GB · 2 MB/s · 1 h 57 min left"],
  [coming(900_000_000, 0.2), "Downloading · 250 MB of 1 GB · 900 MB/s · 1 s left"],
  [coming(0, null), "Downloading · 250 MB of 1 GB"],
  [download({ type: "paused" }), "Paused · 250 MB of 1 GB"],
  [download({ type: "queued" }, { totalBytes: 0 }), "Waiting for its turn"],
  [download({ type: "checking" }), "Verifying what is here · 250 MB of 1 GB"],
  [download({ type: "checking" }, { kind: "repair" }), "Comparing every byte"],
  [download({ type: "installing" }), "Checking the graph and installing"],
  [
    download({ type: "waiting", seconds: 29.2, reason: "no connection" }),
    "Waiting for the network · 250 MB of 1 GB · next try within 30 s · no connection",
  ],
])("%o", (state, sentence) => {
  expect(downloadSentence(state)).toBe(sentence);
});

test("a share is told only where it is one", () => {
  expect(downloadShare(coming(0, null))).toBe(0.25);
  expect(downloadShare(download({ type: "checking" }))).toBeNull();
  expect(downloadShare(download({ type: "queued" }, { totalBytes: 0 }))).toBeNull();
  expect(downloadShare(download({ type: "paused" }, { doneBytes: 2e9 }))).toBe(1);
});
