// Sentences that are put together from figures.

import { formatBytes, formatNumber } from "./format";
import type { ImportReport } from "./ipc";

/** "1 conversation", "12 conversations". */
export function conversationsInWords(count: number): string {
  return `${formatNumber(count)} ${count === 1 ? "conversation" : "conversations"}`;
}

/** What came of deleting a conversation: `freedBytes` of its memory were destroyed with it. */
export function deletionSentence(isPrivate: boolean, freedBytes: number): string {
  const deleted = isPrivate
    ? "The private conversation is gone for good"
    : "The conversation was deleted";
  return freedBytes > 0
    ? `${deleted}, with ${formatBytes(freedBytes)} of its memory.`
    : `${deleted}.`;
}

/** What came of an import, in one or two sentences. */
export function importSentence({ imported, unchanged, refused }: ImportReport): string {
  if (imported + unchanged + refused === 0) return "The file holds no conversations.";
  const parts = [`${conversationsInWords(imported)} imported`];
  if (unchanged > 0) parts.push(`${formatNumber(unchanged)} here already`);
  if (refused > 0) parts.push(`${formatNumber(refused)} could not be read`);
  return `${parts.join(", ")}.`;
}
