// Sizes as people write them into a field: in gigabytes, with a point or a comma.

const GIGABYTE = 1_000_000_000;

/** Bytes as a number of gigabytes, to two decimals: "2", "0.14". */
export function formatGigabytes(bytes: number): string {
  return String(Math.round((bytes / GIGABYTE) * 100) / 100);
}

/** The bytes that a number of gigabytes means; null where it is none. */
export function parseGigabytes(text: string): number | null {
  const trimmed = text.trim();
  if (!/^(\d+([.,]\d*)?|[.,]\d+)$/u.test(trimmed)) return null;
  const bytes = Math.round(Number(trimmed.replace(",", ".")) * GIGABYTE);
  return Number.isSafeInteger(bytes) ? bytes : null;
}
