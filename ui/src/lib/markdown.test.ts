import { describe, expect, test } from "vitest";
import { parseMarkdown } from "./markdown";
import { Pieces } from "./pieces";

const MOST_MILLISECONDS = 2000;

const count = 20_000;
const bombs: [name: string, text: string][] = [
  ["open brackets", "[".repeat(count)],
  ["images", "![[".repeat(count)],
  ["quotes", ">".repeat(count)],
  ["stars", "*a ".repeat(count)],
  ["underscores and stars", "_**".repeat(count)],
  ["lists in lists", "- ".repeat(count)],
  [
    "indented lists",
    Array.from({ length: 300 }, (_, depth) => `${" ".repeat(depth * 2)}- a`).join("\n"),
  ],
  ["growing backticks", Array.from({ length: 200 }, (_, n) => "`".repeat(n)).join(" ")],
  ["an unclosed fence", "```\n" + "let x = 1;\n".repeat(count)],
  ["a wide table", `${"|a".repeat(5000)}\n${"|-".repeat(5000)}\n`],
  ["definitions", "[a]: b\n".repeat(count)],
  ["autolinks", "https://a.example ".repeat(count / 2)],
  ["an unclosed comment", "<!-- " + "a\n\n".repeat(count)],
  ["one long line", "x".repeat(2_000_000)],
  ["a long language", "```" + "l".repeat(10_000) + "\ncode\n```"],
  ["half links", "[a](<b".repeat(count)],
  ["entities", "&amp".repeat(count)],
];

describe("texts made to hang a parser", () => {
  test.each(bombs)("%s come out in time and nothing is thrown", (_name, text) => {
    const begin = performance.now();
    const pieces = new Pieces().cut(text);
    for (const piece of pieces) parseMarkdown(piece.source, piece.definitions);
    expect(performance.now() - begin).toBeLessThan(MOST_MILLISECONDS);
  });

  test("what is too intricate is shown as it was written", () => {
    const text = "[".repeat(10_000);
    expect(parseMarkdown(text)).toEqual([{ type: "plain", text }]);
  });
});
