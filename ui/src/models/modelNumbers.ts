import { formatBytes, formatTokens } from "../lib/format";
import type { ContextMemory, ModelNumberName, ModelSetting } from "../lib/ipc";

/** What each number is called, and what it does. */
export const numberWords: Record<ModelNumberName, { label: string; help: string }> = {
  temperature: { label: "Temperature", help: "0 always takes the likeliest word" },
  topP: {
    label: "Top-p",
    help: "only the likeliest tokens that reach this together; 1 leaves all",
  },
  topK: { label: "Top-k", help: "only so many of the likeliest tokens; 0 leaves all" },
  minP: {
    label: "Min-p",
    help: "only tokens at least this likely beside the likeliest; 0 leaves all",
  },
  repetitionPenalty: { label: "Repetition penalty", help: "1 is none" },
  presencePenalty: {
    label: "Presence penalty",
    help: "once for each token of the reply; 0 is none",
  },
  frequencyPenalty: { label: "Frequency penalty", help: "each time a token was said; 0 is none" },
  maxTokens: { label: "Most new tokens", help: "of one reply" },
  threads: { label: "Threads", help: "the model is loaded anew for it" },
  context: { label: "Context window", help: "tokens; the model is loaded anew for it" },
};

const sources: Record<ModelSetting["source"], string> = {
  settings: "by the settings for all models",
  model: "by the model",
  catalogue: "by the catalogue",
  machine: "by this computer",
  hearth: "by Hearth",
};

/** What holds where nothing is typed, and why: "0.6 by the model". */
export function otherwiseWords({ otherwise, source }: ModelSetting): string {
  return otherwise === null ? "told when it is loaded" : `${otherwise} ${sources[source]}`;
}

/** What the range is: "0 to 1", "64 to 32,768, a whole number". */
export function rangeWords({ least, most, isWhole }: ModelSetting): string {
  return `${isWhole ? "a whole number" : "a number"} from ${least} to ${most}`;
}

/** What a full window costs in memory, and whether that fits. */
export function contextCost(tokens: number, memory: ContextMemory): string {
  if (memory.bytesPerToken === null) return "What a window takes of the memory is not known yet.";
  const window = tokens * memory.bytesPerToken;
  const whole = window + memory.modelBytes;
  const fit =
    whole <= memory.fitsToBytes
      ? "fits this computer"
      : whole <= memory.tightToBytes
        ? "leaves little for anything else"
        : "is more than this computer has";
  return `${formatTokens(tokens)} take up to ${formatBytes(window)} of memory, with the model ${formatBytes(whole)}, which ${fit}.`;
}
