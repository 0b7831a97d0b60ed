// What the in-memory backend remembers beside the conversation that it shows.

import { conversationOf, question, reply, type ScenarioName } from "./fakeScenarios";
import type { Conversation } from "./index";

const DAY = 86_400_000;

const TITLES = [
  "Bread without an oven",
  "Why does a fire crackle?",
  "Letter to the landlord about the heating",
  "Line by line in Rust",
  "A name for a grey cat",
  "Which mushrooms grow under birches",
  "Three days in Ghent",
  "How a hearth is built",
  "The difference between peat and coal",
  "Questions for the piano teacher",
  "كيف أزرع النعناع على الشرفة؟",
  "A story that takes place in a lighthouse, told by its keeper",
];

const ANSWER =
  "Dry wood crackles because the water that is left in it turns to steam and bursts the fibres. Resin does the same, only louder.";

/** One conversation with one turn. `age` is in days. */
function earlier(index: number, age: number): Conversation {
  const id = `earlier-${index}`;
  const title = TITLES[index % TITLES.length] ?? "";
  const conversation = conversationOf(id, [question(`${id}-q`, title), reply(`${id}-r`, ANSWER)]);
  const at = new Date(Date.now() - age * DAY).toISOString();
  const number = index < TITLES.length ? "" : ` (${Math.floor(index / TITLES.length) + 1})`;
  conversation.about = {
    ...conversation.about,
    title: title + number,
    pinned: index < 2,
    created: at,
    updated: at,
  };
  return conversation;
}

export function otherConversations(name: ScenarioName): Conversation[] {
  switch (name) {
    case "conversations":
      return Array.from({ length: 40 }, (_, index) => earlier(index, index ** 1.6 / 3));
    case "thousands":
      return Array.from({ length: 3000 }, (_, index) => earlier(index, index / 5));
    default:
      return [];
  }
}
