import { expect, test } from "vitest";
import { question, reply } from "./ipc/fakeScenarios";
import type { Entry } from "./ipc";
import { pinMark, seenAboveLine } from "./pinned";

const line: Entry = { type: "contextLine", id: "line", at: "2026-03-14T12:00:00Z" };
const reset: Entry = { type: "memoryReset", id: "reset", at: "2026-03-14T12:00:00Z" };
const pinned = { pinned: true };

function seen(entries: Entry[]): string[] {
  const last = entries.findLastIndex(
    ({ type }) => type === "contextLine" || type === "memoryReset",
  );
  return [...seenAboveLine(entries, last)];
}

test("without a line nothing is above it", () => {
  expect(seen([question("q", "a", pinned), reply("r", "b", pinned)])).toEqual([]);
});

test("above the line only what is pinned is seen", () => {
  const above = [
    question("q1", "a", pinned),
    reply("r1", "b"),
    question("q2", "c"),
    reply("r2", "d"),
  ];
  expect(seen([...above, line, question("q3", "e", pinned)])).toEqual(["q1"]);
});

test("a pinned reply is seen with its question, and the question only once", () => {
  const above = [
    question("q1", "a"),
    reply("r1", "b", pinned),
    question("q2", "c", pinned),
    reply("r2", "d", pinned),
  ];
  expect(seen([...above, line])).toEqual(["q1", "r1", "q2", "r2"]);
});

test("above a reset of the memory nothing is seen, pinned or not", () => {
  const above = [question("q1", "a", pinned), reply("r1", "b", pinned)];
  expect(seen([...above, reset])).toEqual([]);
  expect(seen([...above, reset, question("q2", "c", pinned), line])).toEqual(["q2"]);
});

test("the mark says why a message is still seen", () => {
  expect(pinMark(false, false)).toBe("");
  expect(pinMark(true, false)).toBe("Pinned");
  expect(pinMark(true, true)).toBe("Pinned, the model still sees it");
  expect(pinMark(false, true)).toContain("with its pinned reply");
});
