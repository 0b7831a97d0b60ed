import { svelte } from "@sveltejs/vite-plugin-svelte";
import { svelteTesting } from "@testing-library/svelte/vite";
import { defineConfig } from "vitest/config";

export default defineConfig({
  plugins: [svelte(), svelteTesting()],
  // Tauri prints compiler errors above Vite's output and expects the window's address to be fixed.
  clearScreen: false,
  // The models lie beside the interface: a test compares what Ember says with the labels here.
  server: { port: 5173, strictPort: true, fs: { allow: [".", "../models"] } },
  build: {
    target: ["safari17", "chrome120"],
    // The content security policy allows fonts from the application itself only, so none may become a data: address.
    assetsInlineLimit: 0,
    // The polyfill would be an inline script in all but name; every supported webview preloads modules itself.
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 800,
  },
  test: {
    environment: "happy-dom",
    include: ["src/**/*.test.ts"],
    setupFiles: ["src/test/setup.ts"],
    restoreMocks: true,
    // A busy machine is slow, not wrong; what hangs ends all the same.
    testTimeout: 60_000,
  },
});
