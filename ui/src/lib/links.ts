// The one rule for links: which addresses may be offered, and what is shown before one is opened.

export interface LinkTarget {
  /** The whole address in its normal form, with an international host name in punycode. */
  url: string;
  /** What the person must recognise: the host, or the mail address. */
  host: string;
}

const LONGEST_ADDRESS = 8192;
// Browsers drop some of these while parsing, so that what is read differs from what is opened.
const TREACHEROUS = /[\p{Cc}\p{Cf}\p{Z}\\]/u;

/**
 * Checks an address that a model wrote. Only `https:`, `http:` and `mailto:` pass; a user name or
 * password in the address, control characters, white space, backslashes and invisible characters
 * do not, since they make an address look like another one.
 */
export function linkTarget(address: string): LinkTarget | null {
  if (address.length > LONGEST_ADDRESS || TREACHEROUS.test(address)) return null;
  if (!/^(?:https?:\/\/|mailto:)/iu.test(address)) return null;
  let url: URL;
  try {
    url = new URL(address);
  } catch {
    return null;
  }
  if (url.protocol === "mailto:") {
    return /^[^@/?]+@[^@/?]+$/u.test(url.pathname) ? { url: url.href, host: url.pathname } : null;
  }
  if (url.protocol !== "https:" && url.protocol !== "http:") return null;
  if (url.username !== "" || url.password !== "" || url.hostname === "") return null;
  return { url: url.href, host: url.host };
}
