import { expect, test } from "vitest";
import { formatGigabytes, parseGigabytes } from "./gigabytes";

test.each([
  ["2", 2_000_000_000],
  [" 0.5 ", 500_000_000],
  ["1,25", 1_250_000_000],
  [".5", 500_000_000],
  ["0", 0],
])("%j gigabytes are %d bytes", (text, bytes) => {
  expect(parseGigabytes(text)).toBe(bytes);
});

test.each(["", "two", "-1", "1e3", "1 000", "Infinity", "9999999999999"])(
  "%j is no size",
  (text) => {
    expect(parseGigabytes(text)).toBeNull();
  },
);

test("a size is shown as it can be typed", () => {
  expect(formatGigabytes(2_000_000_000)).toBe("2");
  expect(formatGigabytes(137_438_953)).toBe("0.14");
  expect(parseGigabytes(formatGigabytes(1_500_000_000))).toBe(1_500_000_000);
});
