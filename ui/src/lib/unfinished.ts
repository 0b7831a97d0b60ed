// Makes the end of a text that is still being written look calm: half a link, an open `**`, the
// first row of a table would flicker as raw signs and then change their shape.

const FENCE_START = /^ {0,3}(`{3,}|~{3,})/u;

/** The source of a growing piece without what would only flash; the missing ends are added. */
export function calmEnd(source: string): string {
  const fence = FENCE_START.exec(source)?.[1];
  if (fence) return withoutPartOfFence(source, fence);
  return closeMarks(withoutHalfTable(withoutBareMarker(source)));
}

/** Inside an open fence, the first signs of the closing one are not code. */
function withoutPartOfFence(source: string, fence: string): string {
  const lastLine = source.lastIndexOf("\n") + 1;
  const rest = source.slice(lastLine).trim();
  const isPart =
    lastLine > 0 && rest !== "" && rest.length < fence.length && fence.startsWith(rest);
  return isPart ? source.slice(0, lastLine) : source;
}

/** A line with nothing but a marker may become a list, a heading, a rule, or none of them. */
function withoutBareMarker(source: string): string {
  return source.replace(/(^|\n)[ \t]*(?:[-+*=_#>`~]+|\d{1,9}[.)]?)[ \t]*$/u, "$1");
}

/** The head of a table is shown once the row below it has said that it is one. */
function withoutHalfTable(source: string): string {
  const lines = source.split("\n");
  const first = lines.findIndex((line, index) => {
    return /^ {0,3}\|/u.test(line) && lines.slice(index).every((next) => /^ {0,3}\|/u.test(next));
  });
  if (first === -1) return source;
  const [head = "", delimiter = "", ...rows] = lines.slice(first);
  const isWhole = /^ {0,3}\|(?:[ \t]*:?-+:?[ \t]*\|)+[ \t]*$/u.test(delimiter);
  const delimiterRowDone = rows.length > 0 || (isWhole && cells(delimiter) >= cells(head));
  return delimiterRowDone ? source : lines.slice(0, first).join("\n");
}

function cells(row: string): number {
  return occurrences(row, /(?<!\\)\|/gu) - 1;
}

function occurrences(text: string, mark: RegExp): number {
  return text.match(mark)?.length ?? 0;
}

/** Ends emphasis, code and links in the last paragraph that the writer has not ended yet. */
function closeMarks(source: string): string {
  const start = Math.max(source.lastIndexOf("\n\n") + 2, source.lastIndexOf("\n|") + 1, 1) - 1;
  const begin = start <= 0 ? 0 : start;
  let text = source.slice(begin);
  const outsideCode = text.replace(/`[^`]*`/gu, "");
  if (outsideCode.includes("`")) {
    const ticks = /`+$/u.exec(text);
    return source.slice(0, begin) + (ticks ? text.slice(0, ticks.index) : `${text}\``);
  }
  text = text
    .replace(/!?\[[^\][\n]*\]\([^()\s]*$/u, (link) =>
      link.slice(link.indexOf("[") + 1, link.lastIndexOf("](")),
    )
    .replace(/!?\[([^\][\n]*)\]?$/u, (link, label: string) =>
      /^[ xX]$/u.test(label) ? link : label,
    );
  text = text.replace(/(?<![*_~\\])[*_~]{1,3}$/u, (marks, at: number) => {
    // A mark after a word closes what is open; at the start of a word it has opened nothing yet.
    return /\S/u.test(text.charAt(at - 1)) ? marks : "";
  });
  return source.slice(0, begin) + closed(text);
}

function closed(text: string): string {
  const plain = text.replace(/`[^`]*`/gu, "").replace(/\\./gu, "");
  const trimmed = text.trimEnd();
  if (occurrences(plain, /\*\*/gu) % 2 === 1) return `${trimmed.replace(/(?<!\*)\*$/u, "")}**`;
  if (occurrences(plain, /~~/gu) % 2 === 1) return `${trimmed.replace(/(?<!~)~$/u, "")}~~`;
  const single = plain.replace(/\*\*/gu, "").replace(/^[ \t]*\*[ \t]/gmu, "");
  if (occurrences(single, /(?<![\s*])\*|\*(?![\s*])/gu) % 2 === 1) return `${trimmed}*`;
  return text;
}
