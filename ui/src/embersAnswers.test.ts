import { expect, test } from "vitest";
import hearth from "../../models/ember/hearth.json";

const answers = import.meta.glob<string>("../../models/ember/recipe/answers.txt", {
  eager: true,
  import: "default",
  query: "?raw",
});
const sources = import.meta.glob<string>(["./**/*.svelte", "./**/*.ts", "!./**/*.test.ts"], {
  eager: true,
  import: "default",
  query: "?raw",
});

/** Bold words that are no controls: terms that an answer explains, and Ember's own name. */
const TERMS = new Set([
  "Ember",
  "ONNX",
  "ONNX Runtime",
  "CoreML",
  "Markdown",
  "Quantisation",
  "execution provider",
  "context window",
]);

/** A label that is put together when it is shown, by the part that is always the same. */
const PARTS = new Map([
  ["Thought for 12 s", "Thought{time ? ` for ${time}`"],
  ["Ctrl+/", '"/"'],
  ["model picker", '"Choose a model"'],
  ["tokens in this message", " in this message"],
]);

test("what Ember calls a control is how the window labels it", () => {
  const window = Object.values(sources).join("\n");
  const named = new Set(
    [
      ...Object.values(answers)
        .join("\n")
        .matchAll(/\*\*([^*]+)\*\*/gu),
    ].map((match) => match[1] ?? ""),
  );
  expect(named.size).toBeGreaterThan(15);
  const unknown = [...named].filter(
    (name) => !TERMS.has(name) && !window.includes(PARTS.get(name) ?? name),
  );
  expect(
    unknown,
    "correct the answer in models/ember/recipe/answers.txt and train Ember again",
  ).toEqual([]);
});

test("Ember opens with three suggestions", () => {
  expect(hearth.suggestions).toHaveLength(3);
});
