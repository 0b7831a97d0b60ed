import { expect, test } from "vitest";
import { parseMarkdown, type Block, type Inline } from "./markdown";
import { calmEnd } from "./unfinished";

function words(inlines: Inline[]): string {
  return inlines
    .map((inline) => {
      if ("children" in inline) return words(inline.children);
      return inline.type === "text" || inline.type === "code" ? inline.text : "";
    })
    .join("");
}

function shown(source: string): string {
  const text = (block: Block): string => {
    if (block.type === "paragraph" || block.type === "heading") return words(block.children);
    if (block.type === "code" || block.type === "plain") return block.text;
    if (block.type === "list")
      return block.items.map((item) => item.children.map(text).join("")).join("/");
    return block.type;
  };
  return parseMarkdown(calmEnd(source)).map(text).join("|");
}

test.each([
  ["an open strong", "say **hello wor", "say hello wor"],
  ["the first sign of the closing marks", "say **hello*", "say hello"],
  ["opening marks without a word yet", "say **", "say "],
  ["open emphasis", "say *hello", "say hello"],
  ["open strikethrough", "say ~~gone", "say gone"],
  ["open code", "call `main", "call main"],
  ["half a link", "see [the page](https://exa", "see the page"],
  ["a link without its address", "see [the pa", "see the pa"],
  ["an empty list item", "para\n\n- one\n-", "para|one"],
  ["the beginning of a heading", "para\n\n##", "para"],
  ["an underline that may become a heading", "para\n--", "para"],
  ["part of a closing fence", "```js\nlet x;\n``", "let x;"],
  ["the head of a table", "para\n\n| a | b |", "para"],
  ["a table with half its second row", "para\n\n| a | b |\n| --- |", "para"],
])("%s looks calm", (_name, source, expected) => {
  expect(shown(source).trimEnd()).toBe(expected.trimEnd());
});

test.each([
  "A sentence with 2 * 3 = 6 and nothing open.",
  "- [ ] a task\n- [x] another",
  "a **bold** and *soft* and `code` and [link](https://a.example)",
  "| a | b |\n| --- | --- |\n| 1 | 2 |",
  "# Title\n\n1. one\n2. two",
  "* one\n* two",
])("finished text stays as it is: %j", (source) => {
  expect(calmEnd(source)).toBe(source);
});
