import { By, Key } from "selenium-webdriver";
import { expect } from "vitest";
import { scenario } from "./scenario";

const CODE = 'fn main() {\n    println!("Hello, world!");\n}';
const PAGE = `## A small page

Some **bold** and *slanted* text with \`code\`, and [a page about fire](https://example.com/fire?why=1).

| fruit | colour | price |
| --- | --- | ---: |
| apple | red | 1.20 |
| banana | yellow | 0.80 |

\`\`\`rust
${CODE}
\`\`\`

1. first
2. second
   - inside

> Said by somebody.

<b>raw</b> <img src="https://example.com/x.png"> ![a picture](https://example.com/y.png)`;

scenario(
  "a reply is set as a page: table, code, lists, and no raw HTML",
  async ({ data, open }) => {
    await data.useModelThatWrites(PAGE);
    const window = await open();
    const text = await window.ask("Write a page.");
    const count = async (selector: string) =>
      (await window.driver.findElements(By.css(`.markdown ${selector}`))).length;
    expect(await count("table tr")).toBe(3);
    expect(await count("pre")).toBe(1);
    expect(await count("pre span[class]"), "the code is coloured").toBeGreaterThan(3);
    expect(await count("ol > li")).toBe(2);
    expect(await count("blockquote")).toBe(1);
    expect(await count("b, img"), "neither HTML nor pictures").toBe(0);
    expect(text).toContain("<b>raw</b>");
    await window.picture("page");
  },
);

scenario("code is copied as it was written", async ({ data, open }) => {
  await data.useModelThatWrites(PAGE);
  const window = await open();
  await window.ask("Write a page.");
  const code = await window.driver.findElement(By.css(".markdown figure"));
  const copy = await code.findElement(By.css('[data-testid="copy"]'));
  await copy.click();
  await window.until("the button confirms it", async () => {
    return (await copy.getAttribute("aria-label"))?.includes("Copied");
  });
  const composer = await window.find("composer");
  await composer.click();
  await window.command("v");
  await window.until("the code is pasted", async () => {
    return (await composer.getAttribute("value")) === CODE;
  });
});

scenario("a link asks first and shows where it leads", async ({ data, open }) => {
  await data.useModelThatWrites(PAGE);
  const window = await open();
  await window.ask("Write a page.");
  const link = await window.driver.findElement(By.css(".markdown [role='link']"));
  await link.click();
  await window.find("link-dialog");
  const [target] = await window.texts("link-dialog");
  expect(target).toContain("example.com");
  expect(target).toContain("https://example.com/fire?why=1");
  await window.picture("link");
  await window.press(Key.ESCAPE);
  await window.until("the question is gone", async () => {
    return (await window.all("link-dialog")).length === 0;
  });
});
