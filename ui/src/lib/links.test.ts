import { expect, test } from "vitest";
import { linkTarget } from "./links";

test.each([
  ["https://example.org/a?b=c#d", "https://example.org/a?b=c#d", "example.org"],
  ["HTTP://EXAMPLE.org", "http://example.org/", "example.org"],
  ["https://example.org:8443/", "https://example.org:8443/", "example.org:8443"],
  ["https://пример.example/", "https://xn--e1afmkfd.example/", "xn--e1afmkfd.example"],
  ["https://аpple.com/", "https://xn--pple-43d.com/", "xn--pple-43d.com"],
  ["http://192.168.0.1/x", "http://192.168.0.1/x", "192.168.0.1"],
  ["mailto:ada@example.org", "mailto:ada@example.org", "ada@example.org"],
  ["mailto:ada@example.org?subject=hi", "mailto:ada@example.org?subject=hi", "ada@example.org"],
])("%s passes", (address, url, host) => {
  expect(linkTarget(address)).toEqual({ url, host });
});

test.each([
  "",
  "example.org",
  "//example.org",
  "/etc/passwd",
  "javascript:alert(1)",
  "JAVASCRIPT:alert(1)",
  "java\nscript:alert(1)",
  " https://example.org",
  "https://example.org/a b",
  "https://exam\tple.org",
  "https://example.org\\@evil.example",
  "https:\\\\evil.example",
  "https:/example.org",
  "https:example.org",
  "http://",
  "https://user@evil.example",
  "https://google.com:pass@evil.example",
  "https://example.org/\u202Egpj.exe",
  "https://exam\u200Bple.org",
  "https://exa\u00admple.org",
  "data:text/html,x",
  "vbscript:x",
  "file:///etc/passwd",
  "smb://host/share",
  "ms-msdt:/id",
  "tel:+123",
  "ftp://example.org",
  "blob:https://example.org/1",
  "tauri://localhost",
  "mailto:",
  "mailto:nobody",
  "mailto:a@b@c",
  "mailto://host/a@b",
  "https://[::1",
  "https://" + "a".repeat(9000) + ".example",
])("%j does not pass", (address) => {
  expect(linkTarget(address)).toBeNull();
});
