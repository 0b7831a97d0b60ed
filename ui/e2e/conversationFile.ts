// Conversations for a data folder: as a file that Hearth imports, and a long history made past it.

import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import type { DataFolder } from "./dataFolder";
import { required } from "./webDriver";
import { inTerminal } from "./window";

const MINUTE = 60_000;
const BEGINNING = Date.parse("2026-01-01T08:00:00Z");

const ANSWER =
  "Dry wood crackles because the water that is left in it turns to steam and bursts the fibres. Resin does the " +
  "same, only **louder**. A fire wants three things: something that burns, air that comes and goes, and warmth " +
  "enough to begin.";
const RICH_ANSWER = `| wood | burns |
| --- | ---: |
| beech | long |
| pine | fast |

\`\`\`rust
fn main() {
    println!("a fire");
}
\`\`\`

1. ${ANSWER}
2. ${ANSWER}`;
const RICH_EVERY = 20;

/** The id of the message with this number, in the conversation with that one. */
export function messageId(conversation: number, message: number): string {
  const group = conversation.toString(16).padStart(8, "0");
  return `${group}-0000-4000-8000-${message.toString(16).padStart(12, "0")}`;
}

/** A conversation of so many messages, a minute apart. Those with a higher number are newer. */
export function conversation(
  number: number,
  title: string,
  messages: number,
  begin = BEGINNING + number * 10_000 * MINUTE,
): object {
  const at = (message: number) => new Date(begin + message * MINUTE).toISOString();
  return {
    id: messageId(number, 0),
    title,
    created: at(0),
    updated: at(messages),
    messages: Array.from({ length: messages }, (_, index) => {
      const isQuestion = index % 2 === 0;
      const turn = Math.floor(index / 2) + 1;
      const answer = turn % RICH_EVERY === 0 ? RICH_ANSWER : ANSWER;
      return {
        id: messageId(number, index + 1),
        parent: index === 0 ? null : messageId(number, index),
        chosen: true,
        role: isQuestion ? "user" : "assistant",
        text: isQuestion ? `Question ${turn} of ${title}: why does a fire crackle?` : answer,
        model: isQuestion ? null : "Ember",
        finish: isQuestion ? null : "endOfTurn",
        created: at(index + 1),
      };
    }),
  };
}

/** Puts conversations into a data folder, before a window is opened on it. */
export async function importConversations(
  data: DataFolder,
  conversations: object[],
): Promise<void> {
  const path = join(data.base, "conversations.json");
  const file = { format: "hearth conversations", version: 1, conversations };
  await writeFile(path, JSON.stringify(file));
  await inTerminal(data, "conversations", "import", path);
}

/** Ids of a history that was made. */
export interface LongHistory {
  /** A conversation of 2,000 messages, and its last message. */
  long: string;
  last: string;
  /** One of 20. */
  short: string;
  shortLast: string;
}

/** Fills a data folder with so many conversations of 20 messages, and two long ones, as an application of years has. */
export async function makeLongHistory(
  data: DataFolder,
  conversations: number,
): Promise<LongHistory> {
  const program = required("HEARTH_LONG_HISTORY");
  const { stdout } = await promisify(execFile)(program, [data.path, String(conversations)]);
  return JSON.parse(stdout) as LongHistory;
}
