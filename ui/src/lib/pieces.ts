// A growing text is cut into pieces that never change again, and one last piece that still grows.
// Only the last piece of a streaming reply is parsed again.

export interface Piece {
  /** Offset in the text, in UTF-16 units: the identity of the piece. */
  start: number;
  source: string;
  /** Link reference definitions of the whole text, for pieces that may refer to them. */
  definitions: string;
}

type Inside =
  | { type: "text" }
  | { type: "fence"; marker: string; atEdge: boolean }
  | { type: "html"; end: RegExp };

const FENCE = /^[ \t]*(?:(?:[-+*]|\d{1,9}[.)])[ \t]+|>[ \t]?)*(`{3,}(?=[^`]*$)|~{3,})/u;
const DEFINITION = /^ {0,3}\[[^\]\n]{1,200}\]:[ \t]*\S/u;
const MOST_DEFINITIONS = 100;
// These kinds of raw HTML go on across blank lines until their own end.
const LONG_HTML: [RegExp, RegExp][] = [
  [/^ {0,3}<(?:script|pre|style|textarea)(?:[ \t>]|$)/iu, /<\/(?:script|pre|style|textarea)>/iu],
  [/^ {0,3}<!--/u, /-->/u],
  [/^ {0,3}<\?/u, /\?>/u],
  [/^ {0,3}<!\[CDATA\[/u, /\]\]>/u],
  [/^ {0,3}<![a-z]/iu, />/u],
];
// After a blank line, an indented line or a list marker may still belong to what stands above.
const MAY_CONTINUE = /^(?:[ \t]|[-+*](?:[ \t]|$)|\d{1,9}[.)](?:[ \t]|$))/u;

export class Pieces {
  #text = "";
  #done: { start: number; source: string }[] = [];
  #definitions: string[] = [];
  /** Where the growing piece starts, and where the first line not yet looked at starts. */
  #start = 0;
  #scanned = 0;
  #inside: Inside = { type: "text" };
  #afterBlank = false;

  /** Cuts a text. Cheap where it continues the text of the last call. */
  cut(written: string): Piece[] {
    const text = written.includes("\r") ? written.replace(/\r\n?/gu, "\n") : written;
    if (!text.startsWith(this.#text)) this.#reset();
    this.#text = text;
    let end = text.indexOf("\n", this.#scanned);
    while (end !== -1) {
      this.#line(text.slice(this.#scanned, end), this.#scanned, end + 1);
      this.#scanned = end + 1;
      end = text.indexOf("\n", this.#scanned);
    }
    const growing = { start: this.#start, source: text.slice(this.#start) };
    const definitions = [...this.#definitions, ...this.#lastDefinition()].join("\n");
    return [...this.#done, growing]
      .filter((piece) => piece.source.trim() !== "")
      .map((piece) => ({ ...piece, definitions: piece.source.includes("[") ? definitions : "" }));
  }

  /** The last line may be a definition without a line break behind it. */
  #lastDefinition(): string[] {
    const line = this.#text.slice(this.#scanned);
    return this.#inside.type === "text" && DEFINITION.test(line) ? [line] : [];
  }

  #reset(): void {
    this.#done = [];
    this.#definitions = [];
    this.#start = 0;
    this.#scanned = 0;
    this.#inside = { type: "text" };
    this.#afterBlank = false;
  }

  #line(line: string, start: number, next: number): void {
    const blank = line.trim() === "";
    if (this.#inside.type === "fence") {
      const { marker, atEdge } = this.#inside;
      const closing = /^[ \t>]*(`{3,}|~{3,})[ \t]*$/u.exec(line)?.[1];
      if (closing?.startsWith(marker)) {
        this.#inside = { type: "text" };
        if (atEdge) this.#close(next);
      }
    } else if (this.#inside.type === "html") {
      if (this.#inside.end.test(line)) this.#inside = { type: "text" };
    } else if (!blank) {
      this.#open(line, start);
    }
    this.#afterBlank = blank && this.#inside.type === "text";
  }

  /** Looks at a line of ordinary text: it may begin a new piece, a fence or raw HTML. */
  #open(line: string, start: number): void {
    const marker = FENCE.exec(line)?.[1];
    const atEdge = marker !== undefined && line.startsWith(marker);
    if (atEdge || (this.#afterBlank && !MAY_CONTINUE.test(line))) this.#close(start);
    if (marker !== undefined) {
      this.#inside = { type: "fence", marker, atEdge };
      return;
    }
    const html = LONG_HTML.find(([opening, end]) => opening.test(line) && !end.test(line));
    if (html) this.#inside = { type: "html", end: html[1] };
    if (DEFINITION.test(line) && this.#definitions.length < MOST_DEFINITIONS) {
      this.#definitions.push(line);
    }
  }

  #close(at: number): void {
    if (at > this.#start) {
      this.#done.push({ start: this.#start, source: this.#text.slice(this.#start, at) });
    }
    this.#start = at;
  }
}
