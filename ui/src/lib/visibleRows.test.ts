import { expect, test } from "vitest";
import { visibleRows } from "./visibleRows";

const heights = Array.from({ length: 3000 }, (_, index) => (index % 10 === 0 ? 40 : 32));
const whole = heights.reduce((sum, row) => sum + row, 0);

test.each([0, 1, 500, 12_345, whole - 700, whole])(
  "from %i pixels on: what touches the window is there, little else, and nothing moves",
  (top) => {
    const { first, end, above, below } = visibleRows(heights, top, 700, 400);
    const shown = heights.slice(first, end).reduce((sum, row) => sum + row, 0);
    expect(above + shown + below).toBe(whole);
    expect(above).toBeLessThanOrEqual(top);
    expect(above + shown).toBeGreaterThanOrEqual(Math.min(whole, top + 700));
    expect(end - first).toBeLessThan(60);
  },
);

test("a short list is there as a whole", () => {
  expect(visibleRows([32, 32], 0, 700, 400)).toEqual({ first: 0, end: 2, above: 0, below: 0 });
});

test("an empty list has no rows", () => {
  expect(visibleRows([], 0, 700, 400)).toEqual({ first: 0, end: 0, above: 0, below: 0 });
});
