// Sentences that are put together from figures.

import { formatNumber } from "./format";
import type { ImportReport } from "./ipc";

/** "1 conversation", "12 conversations". */
export function conversationsInWords(count: number): string {
  return `${formatNumber(count)} ${count === 1 ? "conversation" : "conversations"}`;
}

/** What came of an import, in one or two sentences. */
export function importSentence({ imported, unchanged, refused }: ImportReport): string {
  if (imported + unchanged + refused === 0) return "The file holds no conversations.";
  const parts = [`${conversationsInWords(imported)} imported`];
  if (unchanged > 0) parts.push(`${formatNumber(unchanged)} here already`);
  if (refused > 0) parts.push(`${formatNumber(refused)} could not be read`);
  return `${parts.join(", ")}.`;
}
