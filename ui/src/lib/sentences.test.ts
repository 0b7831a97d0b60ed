import { expect, test } from "vitest";
import { importSentence } from "./sentences";

test.each([
  [{ imported: 1, unchanged: 0, refused: 0 }, "1 conversation imported."],
  [{ imported: 1200, unchanged: 0, refused: 0 }, "1,200 conversations imported."],
  [
    { imported: 12, unchanged: 3, refused: 1 },
    "12 conversations imported, 3 here already, 1 could not be read.",
  ],
  [{ imported: 0, unchanged: 0, refused: 0 }, "The file holds no conversations."],
])("%o", (report, sentence) => {
  expect(importSentence(report)).toBe(sentence);
});
