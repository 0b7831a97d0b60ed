import { formatBytes } from "../lib/format";
import type { MemoryFit } from "../lib/ipc";

export const fitWords: Record<MemoryFit["fit"], string> = {
  fits: "Fits",
  tight: "Tight",
  tooLarge: "Too large",
};

/** What stands behind the word: computed from sizes, so it says "about", and what it leaves out. */
export function fitSentence(memory: MemoryFit, machineBytes: number | null): string {
  const of = machineBytes === null ? "" : ` of this computer’s ${formatBytes(machineBytes)}`;
  const more = memory.includesKvCache ? "" : ", and more for what was said";
  return `Takes about ${formatBytes(memory.bytes)}${of} memory while it answers${more}`;
}
