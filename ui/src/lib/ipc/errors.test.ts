import { expect, test } from "vitest";
import { AppError, errorTexts, toAppError } from "./errors";

const rows = Object.entries(errorTexts);

test("every code of the contract has its row", () => {
  expect(Object.keys(errorTexts).sort()).toEqual(
    [
      "busy",
      "connectionUnsafe",
      "crashed",
      "dataFolderUnwritable",
      "diskFull",
      "downloadWrong",
      "hubUnreachable",
      "internal",
      "keychainUnusable",
      "libraryFolder",
      "listUnusable",
      "modelBroken",
      "modelMissing",
      "modelUnsupported",
      "offline",
      "outOfMemory",
      "promptTooLong",
      "repositoryGated",
      "repositoryMissing",
      "runtimeMissing",
      "settingRefused",
      "tokenRefused",
    ].sort(),
  );
});

test.each(rows)(
  "%s says what happened, what was kept and what to do, in sentences",
  (_code, text) => {
    for (const sentence of [text.what, text.kept, text.advice]) {
      expect(sentence).toMatch(/^[A-Z][^!]*\.$/u);
      expect(sentence).not.toMatch(/\bwe\b/iu);
    }
  },
);

test("what the backend sent keeps its code and its exact words", () => {
  const error = toAppError({ code: "diskFull", message: "no space left on `/data`" });
  expect(error).toBeInstanceOf(AppError);
  expect(error.code).toBe("diskFull");
  expect(error.message).toBe("no space left on `/data`");
});

test.each([
  ["a string", "boom", "boom"],
  ["an Error", new Error("boom"), "boom"],
  ["an unknown code", { code: "surprise", message: "boom" }, "[object Object]"],
  ["an inherited name", { code: "toString", message: "boom" }, "[object Object]"],
  ["nothing", undefined, "undefined"],
])("%s counts as internal", (_name, reason, message) => {
  const error = toAppError(reason);
  expect(error.code).toBe("internal");
  expect(error.message).toBe(message);
});

test("an AppError stays the same", () => {
  const error = new AppError({ code: "busy", message: "x" });
  expect(toAppError(error)).toBe(error);
});
