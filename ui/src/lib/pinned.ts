// What the model is given of the messages above the line, because they are pinned.

import type { Entry } from "./ipc";

/**
 * The ids of the messages above `line` that the model still sees: those that are pinned below the last reset of
 * its memory, each reply with the question that it answers. `line` is the index of a line, or -1.
 */
export function seenAboveLine(entries: readonly Entry[], line: number): Set<string> {
  const seen = new Set<string>();
  if (entries[line]?.type !== "contextLine") return seen;
  const start = entries.slice(0, line).findLastIndex(({ type }) => type === "memoryReset") + 1;
  let asked: string | null = null;
  for (const entry of entries.slice(start, line)) {
    if (entry.type === "question") {
      if (entry.pinned) seen.add(entry.id);
      asked = entry.id;
    } else if (entry.type === "reply" && entry.pinned) {
      if (asked !== null) seen.add(asked);
      asked = null;
      seen.add(entry.id);
    }
  }
  return seen;
}

/** What is said below a message about its pin; nothing where it has none and needs none. */
export function pinMark(isPinned: boolean, isSeenAboveLine: boolean): string {
  if (isPinned) return isSeenAboveLine ? "Pinned, the model still sees it" : "Pinned";
  return isSeenAboveLine ? "The model still sees it, with its pinned reply" : "";
}
