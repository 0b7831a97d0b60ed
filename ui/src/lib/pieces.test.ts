import { describe, expect, test } from "vitest";
import { richReply } from "./ipc/fakeScenarios";
import { parseMarkdown, type Block } from "./markdown";
import { Pieces } from "./pieces";
import { hostileMarkdown } from "../test/hostileMarkdown";

function blocks(cutter: Pieces, text: string): Block[] {
  return cutter.cut(text).flatMap((piece) => parseMarkdown(piece.source, piece.definitions));
}

/** Small and seeded, so that a failure can be repeated. */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

const texts: [name: string, text: string][] = [
  ["a rich reply", richReply],
  ["loose and nested lists", "- a\n\n  - b\n\n    text of b\n- c\n\n1. one\n\n2. two\n\npara\n"],
  [
    "a list with code",
    "1. do\n   ```sh\n   ls\n\n   pwd\n   ```\n2. then\n\n```js\nx\n\ny\n```\nend\n",
  ],
  ["fences in fences", "````md\n```js\na\n```\n\nb\n````\n\ntext\n~~~\n```\n~~~\n"],
  ["an open fence", "before\n\n```python\nfor x in y:\n\n    pass\n"],
  ["headings of both kinds", "Title\n=====\n\npara\n# not\n#hashtag\nSub\n---\n\ntext\n"],
  ["quotes", "> a\nlazy\n\n> b\n>\n> c\n\nafter\n"],
  [
    "raw HTML with blank lines",
    "<pre>\na\n\nb\n</pre>\n\n<!-- x\n\ny -->\n\n<div>\nc\n\nd\n</div>\n",
  ],
  [
    "definitions",
    "[a][1] and [b]\n\ntext\n\n[1]: https://a.example\n[b]: https://b.example\n\n[a][1]\n",
  ],
  ["tables", "p\n| a | b |\n|---|---|\n| 1 | 2 |\n\n| x |\n| - |\n"],
  ["indented code", "para\n\n    code\n\n    more\n\nback\n"],
  ["line ends of Windows", "a\r\n\r\nb\r\n```\r\nc\r\n```\r\n"],
];

describe("a text that arrives in parts", () => {
  test.each(texts)("%s: 200 random ways to cut it all end in the whole parse", (_name, text) => {
    const random = randomNumbers(text.length);
    const whole = blocks(new Pieces(), text);
    for (let round = 0; round < 200; round += 1) {
      const cutter = new Pieces();
      let end = 0;
      while (end < text.length) {
        end = Math.min(text.length, end + 1 + Math.floor(random() * 24));
        cutter.cut(text.slice(0, end));
      }
      expect(blocks(cutter, text)).toEqual(whole);
    }
  });

  test.each(texts)(
    "%s: at every cut the parts give what the prefix gives at once",
    (_name, text) => {
      const cutter = new Pieces();
      const step = Math.ceil(text.length / 200);
      for (let end = 1; end <= text.length; end += step) {
        const prefix = text.slice(0, end);
        expect(blocks(cutter, prefix)).toEqual(blocks(new Pieces(), prefix));
      }
    },
  );

  test.each(texts)("%s: cut into pieces it means the same as uncut", (_name, text) => {
    const meaning = (list: Block[]) => JSON.stringify(list);
    expect(meaning(blocks(new Pieces(), text))).toBe(meaning(parseMarkdown(text)));
  });

  test("hostile texts mean the same in parts as at once", () => {
    for (const text of hostileMarkdown) {
      const cutter = new Pieces();
      for (let end = 1; end <= text.length; end += 3) cutter.cut(text.slice(0, end));
      expect(blocks(cutter, text)).toEqual(blocks(new Pieces(), text));
    }
  });

  test("finished pieces keep their identity while the text grows", () => {
    const cutter = new Pieces();
    const before = cutter.cut("one\n\ntwo\n\nthr").map((piece) => piece.start);
    const after = cutter.cut("one\n\ntwo\n\nthree\n\nfour").map((piece) => piece.start);
    expect(after.slice(0, 2)).toEqual(before.slice(0, 2));
  });

  test("another text starts afresh", () => {
    const cutter = new Pieces();
    cutter.cut("```\nopen fence\n");
    expect(blocks(cutter, "# Title\n\ntext")).toEqual(blocks(new Pieces(), "# Title\n\ntext"));
  });
});
