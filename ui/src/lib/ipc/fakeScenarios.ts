// What the in-memory backend begins with and says, one scenario per state of the window.

import type { Conversation, Entry, Model, Notice, Question, Reply, Snapshot, Usage } from "./index";

export const scenarioNames = [
  "empty",
  "conversation",
  "streaming",
  "prefill",
  "thinking",
  "error",
  "runtimeMissing",
  "loading",
  "preparing",
  "stopped",
  "maxTokens",
  "contextFull",
  "reset",
  "long",
  "notices",
  "nomodel",
  "tooLong",
  "conversations",
  "thousands",
  "versions",
  "contextLine",
  "pinned",
  "interrupted",
  "private",
  "library",
  "libraryEmpty",
  "downloads",
  "downloadFailed",
  "offline",
  "libraryAway",
] as const;

export type ScenarioName = (typeof scenarioNames)[number];

/** One step of a scripted reply. `hold` lets the state stand until it is stopped. */
export type ScriptStep =
  | { type: "prefill"; done: number; total: number; reused: number }
  | { type: "thinking"; text: string }
  | { type: "text"; text: string }
  | { type: "pause"; milliseconds: number }
  | { type: "fail" }
  | { type: "hold" };

const NOON = "2026-03-14T12:00:00Z";

export const usage: Usage = {
  promptTokens: 1235,
  reusedTokens: 1204,
  restoredTokens: 0,
  reuseLimit: null,
  newTokens: 186,
  prefillSeconds: 0.18,
  decodeSeconds: 2.51,
  timeToFirstTokenSeconds: 0.2,
};

export const emberModel: Model = {
  id: "ember",
  name: "Ember",
  source: "builtIn",
  folder: "/opt/hearth/models/ember",
  parameters: 3_300_000,
  sizeBytes: 13_400_000,
  contextLength: 2048,
  plainTemplate: false,
  introduction:
    "A very small model that comes with Hearth. It chats a little and remembers what you tell it.",
  suggestions: ["My name is Ada.", "Tell me a short story.", "What can you do?"],
  state: { type: "ready" },
};

const otherModels: Model[] = [
  {
    id: "qwen2.5-0.5b-instruct",
    name: "Qwen2.5 0.5B Instruct",
    source: "installed",
    folder: "/data/hearth/models/qwen2.5-0.5b-instruct",
    parameters: 494_000_000,
    sizeBytes: 786_000_000,
    contextLength: 32768,
    plainTemplate: false,
    introduction: null,
    suggestions: [],
    state: { type: "available" },
  },
  {
    id: "smollm2-135m",
    name: "SmolLM2 135M",
    source: "installed",
    folder: "/data/hearth/models/smollm2-135m",
    parameters: 135_000_000,
    sizeBytes: 181_000_000,
    contextLength: 8192,
    plainTemplate: true,
    introduction: null,
    suggestions: [],
    state: { type: "available" },
  },
  {
    id: "phi-broken",
    name: "Phi-3.5 mini",
    source: "installed",
    folder: "/data/hearth/models/phi-broken",
    parameters: 3_800_000_000,
    sizeBytes: 2_720_000_000,
    contextLength: 131072,
    plainTemplate: false,
    introduction: null,
    suggestions: [],
    state: {
      type: "failed",
      error: {
        code: "modelBroken",
        message:
          "failed to read graph `/data/hearth/models/phi-broken/model.onnx`: file ends after 1,204 of 52,118 bytes",
      },
    },
  },
];

export const richReply = `Here is how the three approaches compare.

## Reading a file line by line

| Approach | Memory | Speed | When to use it |
| --- | --- | ---: | --- |
| \`fs::read_to_string\` | whole file | 1.0 × | small files |
| \`BufReader::lines\` | one line | 0.9 × | *almost always* |
| memory mapping | pages | 1.3 × | very large, read often |

The second one is the right default. It reads **one line at a time**, so a file of 10 GB needs no more memory than one of 10 KB:

\`\`\`rust
use std::fs::File;
use std::io::{BufRead, BufReader};

/// Counts the lines that contain a word.
fn count(path: &str, word: &str) -> std::io::Result<usize> {
    let reader = BufReader::new(File::open(path)?);
    let mut found = 0;
    for line in reader.lines() {
        if line?.contains(word) {
            found += 1; // each line is dropped before the next one is read
        }
    }
    Ok(found)
}
\`\`\`

A few things to keep in mind:

1. Every line is a new \`String\`. For hot loops, \`read_line\` with one buffer is faster.
2. An error can come with *any* line, hence the \`?\` inside the loop.
3. Lines are split at \`\\n\`; a trailing \`\\r\` stays.

> The standard library documents this under [BufRead::lines](https://doc.rust-lang.org/std/io/trait.BufRead.html#method.lines).
`;

export const question = (id: string, text: string, changes: Partial<Question> = {}): Entry => ({
  type: "question",
  id,
  text,
  at: NOON,
  versions: [id],
  pinned: false,
  ...changes,
});

export const reply = (id: string, text: string, changes: Partial<Reply> = {}): Entry => ({
  type: "reply",
  id,
  text,
  thinking: null,
  status: { type: "finished", reason: "endOfTurn" },
  model: emberModel.name,
  usage,
  at: NOON,
  versions: [id],
  pinned: false,
  ...changes,
});

const shortTalk = [
  question("q1", "My name is Ada."),
  reply("r1", "Nice to meet you, Ada. What would you like to talk about?"),
];

const richTalk = [
  question("q2", "How do I read a large file line by line in Rust? Compare the ways."),
  reply("r2", richReply),
];

const cutText =
  "Once upon a time, in a house at the edge of the wood, a small fire burned in the hearth. It had burned for";

function longTalk(turns: number, richEvery: number): Entry[] {
  return Array.from({ length: turns }, (_, turn) => [
    question(`q${turn}`, `Question ${turn + 1}: what follows from the one before?`),
    reply(
      `r${turn}`,
      turn % richEvery === richEvery - 1
        ? richReply
        : "One thing follows from another, and so the evening goes on by the fire.",
    ),
  ]).flat();
}

const notices: Notice[] = [
  {
    id: "coreml",
    severity: "information",
    code: "providerFallback",
    message: "CoreML is not offered by this library. The model runs on the CPU.",
  },
  {
    id: "template",
    severity: "warning",
    code: "plainTemplate",
    message:
      "SmolLM2 135M has no chat template. A plain one is used, so its replies may be weaker.",
  },
];

const runtimeError = {
  code: "runtimeMissing",
  message:
    "failed to open the ONNX Runtime library `/opt/hearth/lib/libonnxruntime.so.1`: file too short",
} as const;

function entriesOf(name: ScenarioName): Entry[] {
  switch (name) {
    case "conversation":
    case "notices":
    case "streaming":
    case "prefill":
    case "thinking":
    case "error":
      return name === "conversation" ? [...shortTalk, ...richTalk] : shortTalk;
    case "stopped":
      return [
        ...shortTalk,
        question("q3", "Tell me a long story."),
        reply("r3", cutText, { status: { type: "finished", reason: "cancelled" } }),
      ];
    case "maxTokens":
      return [
        question("q3", "Tell me a long story."),
        reply("r3", cutText, { status: { type: "finished", reason: "maxTokens" } }),
      ];
    case "contextFull":
      return [
        question("q3", "Tell me a long story."),
        reply("r3", cutText, { status: { type: "finished", reason: "contextFull" } }),
      ];
    case "reset":
      return [
        ...shortTalk,
        { type: "memoryReset", id: "m1", at: NOON },
        question("q4", "What is my name?"),
        reply("r4", "I do not know your name yet. What is it?"),
        { type: "modelSwitched", id: "s1", at: NOON, model: "Qwen2.5 0.5B Instruct" },
        question("q5", "And now?"),
        reply("r5", "You have not told me your name so far.", { model: "Qwen2.5 0.5B Instruct" }),
      ];
    case "long":
      return longTalk(40, 5);
    case "thousands":
      return longTalk(1000, 40);
    case "conversations":
    case "private":
      return shortTalk;
    case "versions":
      return [
        question("q6", "Name three trees that keep their leaves in winter.", {
          versions: ["q5", "q6"],
        }),
        reply("r6", "Holly, yew and Scots pine keep their leaves or needles in winter.", {
          versions: ["r5", "r6", "r7"],
        }),
      ];
    case "contextLine":
      return [...shortTalk, { type: "contextLine", id: "c1", at: NOON }, ...richTalk];
    case "pinned":
      return [
        question("q1", "My name is Ada, and I am allergic to nuts.", { pinned: true }),
        reply("r1", "Good to know, Ada. I will keep nuts out of every recipe."),
        question("q0", "Which bread keeps longest?"),
        reply("r0", "Rye with sourdough: a week in a wooden box.", { pinned: true }),
        { type: "contextLine", id: "c1", at: NOON },
        ...richTalk,
      ];
    case "interrupted":
      return [
        question("q3", "Tell me a long story."),
        reply("r3", cutText, { status: { type: "interrupted" }, usage: null }),
      ];
    default:
      return [];
  }
}

function modelsOf(name: ScenarioName): Model[] {
  const state: Model["state"] =
    name === "loading"
      ? { type: "loading" }
      : name === "preparing"
        ? { type: "preparing", done: 3, total: 8 }
        : name === "runtimeMissing"
          ? { type: "failed", error: runtimeError }
          : name === "nomodel"
            ? { type: "available" }
            : { type: "ready" };
  if (name === "libraryEmpty") return [emberModel];
  return [{ ...emberModel, state }, ...otherModels];
}

/** A conversation that holds these entries. */
export function conversationOf(id: string, entries: Entry[]): Conversation {
  return {
    id,
    about: {
      id,
      title: "",
      pinned: false,
      private: false,
      saved: true,
      created: NOON,
      updated: NOON,
      model: null,
    },
    systemPrompt: null,
    draft: "",
    entries,
    earlier: 0,
  };
}

function firstConversation(name: ScenarioName): Conversation {
  const first = conversationOf("conversation-1", entriesOf(name));
  first.about.private = name === "private";
  first.about.saved = name !== "private";
  if (name === "conversations" || name === "thousands") {
    first.about.updated = new Date().toISOString();
  }
  return first;
}

/** What the window reads first. */
export function initialSnapshot(name: ScenarioName): Snapshot {
  return {
    models: modelsOf(name),
    selectedModel: name === "nomodel" ? null : emberModel.id,
    conversation: firstConversation(name),
    conversations: { conversations: [], more: false },
    notices: name === "notices" ? notices : [],
    about: {
      version: "0.1.0",
      dataFolder: "/data/hearth",
      runtimeVersion: name === "runtimeMissing" ? null : "1.31.1",
      executionProvider: name === "runtimeMissing" ? null : "CPU",
      kvBackend: name === "runtimeMissing" ? null : "shared buffer",
      threads: 8,
    },
  };
}

/** Whether the scenario shows the model library. */
export function showsLibrary(name: ScenarioName): boolean {
  return ["library", "libraryEmpty", "downloads", "downloadFailed", "libraryAway"].includes(name);
}

/** A question that the scenario asks by itself, so that its state shows without a hand. */
export function openingQuestion(name: ScenarioName): string | null {
  return ["streaming", "prefill", "thinking", "error"].includes(name)
    ? "How do I read a large file line by line in Rust? Compare the ways."
    : null;
}

function words(text: string): ScriptStep[] {
  const parts = text.match(/\s*\S+/gu) ?? [];
  return parts.flatMap((part): ScriptStep[] => [
    { type: "text", text: part },
    { type: "pause", milliseconds: 25 },
  ]);
}

const THOUGHT =
  "The person wants a comparison, so a table first. Then the code for the usual case, and only then the exceptions.";

/** The steps of the next reply. */
export function script(name: ScenarioName): ScriptStep[] {
  const reading: ScriptStep[] = [
    { type: "pause", milliseconds: 150 },
    { type: "prefill", done: 1204, total: 1235, reused: 1204 },
    { type: "pause", milliseconds: 100 },
    { type: "prefill", done: 1235, total: 1235, reused: 1204 },
  ];
  switch (name) {
    case "streaming":
      return [...reading, ...words(richReply.slice(0, 780)), { type: "hold" }];
    case "prefill":
      return [{ type: "prefill", done: 3412, total: 5120, reused: 0 }, { type: "hold" }];
    case "thinking":
      return [
        ...reading,
        ...THOUGHT.split(/(?<= )/u).flatMap((text): ScriptStep[] => [
          { type: "thinking", text },
          { type: "pause", milliseconds: 40 },
        ]),
        { type: "hold" },
      ];
    case "error":
      return [...reading, ...words(richReply.slice(0, 240)), { type: "fail" }];
    default:
      return [...reading, ...words(richReply)];
  }
}
