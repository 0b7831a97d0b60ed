// Source code as coloured spans: the token tree of lowlight, reduced to text and class names.

import type { RootContent } from "hast";
import { common, createLowlight } from "lowlight";

export interface CodeSpan {
  text: string;
  /** Names such as `hljs-keyword`; empty for plain code. */
  className: string;
}

const lowlight = createLowlight(common);
// Beyond these the colours cost more time than they are worth; the code itself is always shown.
const LONGEST_CODE = 60_000;
const LONGEST_LINE = 2_000;

function isColourable(code: string, language: string): boolean {
  if (code.length > LONGEST_CODE || !lowlight.registered(language)) return false;
  return code.split("\n").every((line) => line.length <= LONGEST_LINE);
}

/** The lines of `code`, each as its spans. */
export function highlightLines(code: string, language: string): CodeSpan[][] {
  const name = language.toLowerCase();
  if (!isColourable(code, name)) {
    return code.split("\n").map((line) => [{ text: line, className: "" }]);
  }
  const lines: CodeSpan[][] = [[]];
  for (const node of lowlight.highlight(name, code).children) collect(node, "", lines);
  return lines;
}

function collect(node: RootContent, className: string, lines: CodeSpan[][]): void {
  if (node.type === "text") {
    node.value.split("\n").forEach((text, index) => {
      if (index > 0) lines.push([]);
      if (text !== "") lines.at(-1)?.push({ text, className });
    });
  } else if (node.type === "element") {
    const own = node.properties["className"];
    const names = Array.isArray(own) ? own.join(" ") : "";
    for (const child of node.children) collect(child, names === "" ? className : names, lines);
  }
}
