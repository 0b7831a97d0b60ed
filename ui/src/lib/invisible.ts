// Characters that hide in text or turn it around. In code and in names they are shown as marks.

export interface InvisibleMark {
  /** For example `U+202E`. */
  mark: string;
}

// Direction overrides and isolates, direction marks, spaces without width, the soft hyphen, and the
// tag characters. The joiners U+200C and U+200D stay: scripts and emoji need them.
const INVISIBLE =
  /[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\u{e0000}-\u{e007f}]/gu;

/** Cuts text at its invisible characters, which come back as marks. */
export function revealInvisible(text: string): (string | InvisibleMark)[] {
  const parts: (string | InvisibleMark)[] = [];
  let end = 0;
  for (const match of text.matchAll(INVISIBLE)) {
    if (match.index > end) parts.push(text.slice(end, match.index));
    const code = match[0].codePointAt(0) ?? 0;
    parts.push({ mark: `U+${code.toString(16).toUpperCase().padStart(4, "0")}` });
    end = match.index + match[0].length;
  }
  if (end < text.length) parts.push(text.slice(end));
  return parts;
}

/** The same as one string, for names and titles. */
export function revealInvisibleText(text: string): string {
  return revealInvisible(text)
    .map((part) => (typeof part === "string" ? part : `[${part.mark}]`))
    .join("");
}
