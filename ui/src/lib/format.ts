// Numbers, sizes and times as the person's own locale writes them.

/**
 * The first language that `Intl` knows. A system without a locale of its own calls it "C", which is
 * none, and the default of `Intl` would then group no digits.
 */
export function chooseLocale(languages: readonly string[]): string {
  for (const language of languages) {
    try {
      const [known] = Intl.NumberFormat.supportedLocalesOf(language);
      if (known !== undefined && !known.includes("posix")) return known;
    } catch {
      // Not the name of a language at all; the next one may be.
    }
  }
  return "en";
}

const ownLocale = chooseLocale(navigator.languages);

/** `1204` as "1,204", "1 204" or "1.204". */
export function formatNumber(value: number, locale = ownLocale): string {
  return new Intl.NumberFormat(locale, { maximumFractionDigits: 0 }).format(value);
}

/** "1 token", "3,412 tokens". */
export function formatTokens(count: number, locale = ownLocale): string {
  return `${formatNumber(count, locale)} ${count === 1 ? "token" : "tokens"}`;
}

/** Parameters of a model: "494M", "1.5B". */
export function formatParameters(count: number, locale = ownLocale): string {
  return new Intl.NumberFormat(locale, {
    notation: "compact",
    maximumSignificantDigits: 3,
  }).format(count);
}

const BYTE_UNITS = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"] as const;

/** Bytes in decimal units: "842 MB", "1.2 GB". */
export function formatBytes(bytes: number, locale = ownLocale): string {
  const power = bytes < 1000 ? 0 : Math.min(Math.floor(Math.log10(bytes) / 3), 4);
  const value = bytes / 1000 ** power;
  return new Intl.NumberFormat(locale, {
    style: "unit",
    unit: BYTE_UNITS[power] ?? "byte",
    unitDisplay: power === 0 ? "long" : "short",
    maximumFractionDigits: power > 2 && value < 10 ? 1 : 0,
  }).format(value);
}

/** Seconds: "0.2 s", "14 s", "2 min 5 s". */
export function formatSeconds(seconds: number, locale = ownLocale): string {
  if (seconds >= 60) {
    const minutes = Math.floor(seconds / 60);
    const rest = Math.round(seconds - minutes * 60);
    return rest === 60
      ? `${minutes + 1} min`
      : rest === 0
        ? `${minutes} min`
        : `${minutes} min ${rest} s`;
  }
  const digits = seconds < 0.0995 ? 2 : seconds < 9.95 ? 1 : 0;
  const number = new Intl.NumberFormat(locale, {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  }).format(seconds);
  return `${number} s`;
}

/** Tokens a second: "74 tok/s", "7.4 tok/s"; null where no time was measured. */
export function formatSpeed(tokens: number, seconds: number, locale = ownLocale): string | null {
  if (tokens <= 0 || !(seconds > 0)) return null;
  const speed = tokens / seconds;
  const number = new Intl.NumberFormat(locale, {
    maximumFractionDigits: speed < 10 ? 1 : 0,
  }).format(speed);
  return `${number} tok/s`;
}

/** The time of day of an RFC 3339 time: "14:02", "2:02 PM"; empty where it is none. */
export function formatTime(at: string, locale = ownLocale): string {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return "";
  return new Intl.DateTimeFormat(locale, { hour: "numeric", minute: "2-digit" }).format(date);
}

/** Day and time of an RFC 3339 time: "Mar 14, 2:02 PM"; empty where it is none. */
export function formatMoment(at: string, locale = ownLocale): string {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return "";
  return new Intl.DateTimeFormat(locale, {
    month: "short",
    day: "numeric",
    hour: "numeric",
    minute: "2-digit",
  }).format(date);
}
