/** Text without the control characters that a terminal would obey; tabs and line breaks stay. */
export function withoutControlCharacters(text: string): string {
  // eslint-disable-next-line no-control-regex -- control characters are exactly what is removed
  return text.replace(/\r\n?/gu, "\n").replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/gu, "");
}

/** Copies text; false where the system refuses. */
export async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(withoutControlCharacters(text));
    return true;
  } catch {
    return false;
  }
}
