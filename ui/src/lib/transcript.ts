import { formatTime } from "./format";
import type { Entry } from "./ipc";

/** The conversation as Markdown, for the clipboard. Times are those of the person's clock. */
export function transcript(entries: Entry[]): string {
  return entries.map(section).join("\n\n") + "\n";
}

function section(entry: Entry): string {
  switch (entry.type) {
    case "question":
      return `## You\n\n${entry.text}`;
    case "reply":
      return `## ${entry.model}\n\n${entry.text}`;
    case "memoryReset":
      return `---\n\n*Memory reset, ${formatTime(entry.at)}*`;
    case "contextLine":
      return "---\n\n*The model no longer sees anything above*";
    case "modelSwitched":
      return `---\n\n*${entry.model} answers from here*`;
  }
}
