import { expect, test } from "vitest";
import * as format from "./format";
import { revealInvisible, revealInvisibleText } from "./invisible";

test("numbers are grouped as the locale does it", () => {
  expect(format.formatNumber(1204, "en")).toBe("1,204");
  expect(format.formatNumber(1204567, "de")).toBe("1.204.567");
  expect(format.formatNumber(1204567, "fr")).toBe("1\u202f204\u202f567");
});

test.each([
  [["fr-CH", "en"], "fr-CH"],
  [["c"], "en"],
  [["C", "de-DE"], "de-DE"],
  [["en-US-u-va-posix", "en-GB"], "en-GB"],
  [["not a language", "xx-invalid-"], "en"],
  [[], "en"],
])("of %j the window speaks %s", (languages, locale) => {
  expect(format.chooseLocale(languages)).toBe(locale);
});

test("one token is not several", () => {
  expect(format.formatTokens(1, "en")).toBe("1 token");
  expect(format.formatTokens(3412, "en")).toBe("3,412 tokens");
});

test("parameters are short", () => {
  expect(format.formatParameters(494_032_768, "en")).toBe("494M");
  expect(format.formatParameters(1_543_714_304, "en")).toBe("1.54B");
});

test.each([
  [0, "0 bytes"],
  [999, "999 bytes"],
  [13_400_000, "13 MB"],
  [786_000_000, "786 MB"],
  [1_234_000_000, "1.2 GB"],
  [27_200_000_000, "27 GB"],
])("%d bytes read as %s", (bytes, words) => {
  expect(format.formatBytes(bytes, "en")).toBe(words);
});

test.each([
  [0.004, "0.00 s"],
  [0.034, "0.03 s"],
  [0.2, "0.2 s"],
  [9.96, "10 s"],
  [59.4, "59 s"],
  [60, "1 min"],
  [125, "2 min 5 s"],
  [119.8, "2 min"],
])("%d seconds read as %s", (seconds, words) => {
  expect(format.formatSeconds(seconds, "en")).toBe(words);
});

test("a speed needs tokens and time", () => {
  expect(format.formatSpeed(186, 2.51, "en")).toBe("74 tok/s");
  expect(format.formatSpeed(3, 1.5, "en")).toBe("2 tok/s");
  expect(format.formatSpeed(0, 2, "en")).toBeNull();
  expect(format.formatSpeed(5, 0, "en")).toBeNull();
  expect(format.formatSpeed(5, Number.NaN, "en")).toBeNull();
});

test("a time that is none shows nothing", () => {
  expect(format.formatTime("yesterday", "en")).toBe("");
  expect(format.formatTime("2026-03-14T14:02:00", "de")).toBe("14:02");
});

test("invisible characters become marks, joiners stay", () => {
  expect(revealInvisible("a\u202Eb")).toEqual(["a", { mark: "U+202E" }, "b"]);
  expect(revealInvisibleText("x\u{E0041}\uFEFF")).toBe("x[U+E0041][U+FEFF]");
  expect(revealInvisibleText("👩\u200D🚀 नमस्\u200Cते")).toBe("👩\u200D🚀 नमस्\u200Cते");
});
