import { formatBytes } from "../lib/format";
import type { MemoryFit } from "../lib/ipc";

export const fitWords: Record<MemoryFit["fit"], string> = {
  fits: "Fits",
  tight: "Tight",
  tooLarge: "Too large",
};

/** What stands behind the word: computed from sizes, so it says "about". */
export function fitSentence(memory: MemoryFit, machineBytes: number | null): string {
  const of = machineBytes === null ? "" : ` of this computer’s ${formatBytes(machineBytes)}`;
  return `Takes about ${formatBytes(memory.bytes)}${of} memory while it answers`;
}
