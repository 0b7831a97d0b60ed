import { expect, test } from "vitest";
import { deletionSentence, importSentence } from "./sentences";

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

test.each([
  [false, 0, "The conversation was deleted."],
  [false, 24_400_000, "The conversation was deleted, with 24 MB of its memory."],
  [true, 512_000, "The private conversation is gone for good, with 512 kB of its memory."],
])("deleting, private %j, %d bytes", (isPrivate, bytes, sentence) => {
  expect(deletionSentence(isPrivate, bytes)).toBe(sentence);
});
