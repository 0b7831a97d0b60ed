import js from "@eslint/js";
import prettier from "eslint-config-prettier";
import svelte from "eslint-plugin-svelte";
import globals from "globals";
import typescript from "typescript-eslint";
import svelteConfig from "./svelte.config.js";

// Text of a model must never become markup: these are all the ways by which a string turns into elements.
const noMarkupFromStrings = [
  {
    selector:
      "MemberExpression[property.name=/^(innerHTML|outerHTML|insertAdjacentHTML|setHTMLUnsafe|createContextualFragment|parseFromString)$/]",
    message: "Strings must not become markup; render the allow-listed tree of lib/markdown.ts.",
  },
  {
    selector: "MemberExpression[object.name='document'][property.name=/^(write|writeln)$/]",
    message: "Strings must not become markup.",
  },
];

const noWayOut = [
  {
    selector: "CallExpression[callee.object.name='window'][callee.property.name='open']",
    message: "Links are opened by the link dialog alone (chat/LinkDialog.svelte).",
  },
  {
    selector: "CallExpression[callee.name=/^(fetch|eval)$/]",
    message: "The window fetches nothing and evaluates nothing.",
  },
];

export default typescript.config(
  { ignores: ["dist/", "node_modules/", "src/lib/ipc/bindings.ts"] },
  js.configs.recommended,
  ...typescript.configs.strict,
  ...svelte.configs.recommended,
  prettier,
  ...svelte.configs.prettier,
  {
    languageOptions: { globals: { ...globals.browser } },
    rules: {
      "no-restricted-syntax": ["error", ...noMarkupFromStrings, ...noWayOut],
      "no-restricted-imports": [
        "error",
        {
          patterns: [
            { group: ["@tauri-apps/*"], message: "Only lib/ipc talks to Rust." },
            { group: ["**/ipc/bindings", "./bindings"], message: "Import from lib/ipc instead." },
          ],
        },
      ],
      "@typescript-eslint/consistent-type-imports": "error",
      eqeqeq: "error",
    },
  },
  {
    files: ["**/*.svelte", "**/*.svelte.ts"],
    languageOptions: {
      parserOptions: {
        parser: typescript.parser,
        extraFileExtensions: [".svelte"],
        svelteConfig,
      },
    },
    rules: {
      "svelte/no-at-html-tags": "error",
      "svelte/no-inline-styles": ["error", { allowTransitions: true }],
      "svelte/require-each-key": "error",
      "svelte/button-has-type": "error",
      "svelte/no-target-blank": "error",
    },
  },
  {
    files: ["src/lib/ipc/index.ts"],
    rules: { "no-restricted-imports": "off" },
  },
  {
    files: ["*.config.ts", "*.config.js"],
    languageOptions: { globals: { ...globals.node } },
  },
);
