import { defineConfig } from "vitest/config";

// The scenarios share one display and one keyboard focus, so they run one after the other.
export default defineConfig({
  test: {
    root: import.meta.dirname,
    include: ["*.scenario.ts"],
    fileParallelism: false,
    testTimeout: 120_000,
    hookTimeout: 60_000,
    reporters: ["verbose"],
  },
});
