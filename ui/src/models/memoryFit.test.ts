import { expect, test } from "vitest";
import { fitSentence } from "./memoryFit";

test("a need that leaves out what was said tells so", () => {
  const memory = { bytes: 4_000_000_000, includesKvCache: true, fit: "fits" } as const;
  const whole = fitSentence(memory, 16_000_000_000);
  expect(whole).toMatch(/^Takes about 4.* GB of this computer’s 16 GB memory while it answers$/u);
  const part = fitSentence({ ...memory, includesKvCache: false }, 16_000_000_000);
  expect(part).toBe(`${whole}, and more for what was said`);
});
