import { cleanup, render } from "@testing-library/svelte";
import { afterEach, describe, expect, test, vi } from "vitest";
import type { LinkTarget } from "../../lib/links";
import { hostileMarkdown } from "../../test/hostileMarkdown";
import MarkdownInContext from "../../test/MarkdownInContext.svelte";

afterEach(cleanup);

const ELEMENTS = new Set(
  "div p h3 h4 h5 h6 ul ol li blockquote figure figcaption pre code span bdi strong em del br hr table thead tbody tr th td button input svg path line rect circle polyline".split(
    " ",
  ),
);
const ATTRIBUTES = new Set(
  "class dir role tabindex title type scope start checked disabled aria-label aria-hidden aria-pressed data-tooltip data-place data-testid".split(
    " ",
  ),
);
// What the icons are drawn with; no text of a model gets in there.
const DRAWING = new Set(
  "xmlns width height viewBox viewbox fill stroke stroke-width stroke-linecap stroke-linejoin d x x1 x2 y y1 y2 rx ry cx cy r points".split(
    " ",
  ),
);

function show(text: string, growing = false): { root: HTMLElement; opened: LinkTarget[] } {
  const opened: LinkTarget[] = [];
  const onlink = (target: LinkTarget) => opened.push(target);
  const { container } = render(MarkdownInContext, { props: { text, growing, onlink } });
  return { root: container, opened };
}

function violations(root: HTMLElement): string[] {
  return [...root.querySelectorAll("*")].flatMap((element) => {
    const name = element.tagName.toLowerCase();
    const isDrawing = element.closest("svg") !== null;
    const wrong = [...element.attributes]
      .map((attribute) => attribute.name)
      .filter((attribute) => !ATTRIBUTES.has(attribute) && !(isDrawing && DRAWING.has(attribute)))
      .map((attribute) => `${name}[${attribute}]`);
    return ELEMENTS.has(name) ? wrong : [name, ...wrong];
  });
}

describe("what a model writes stays text", () => {
  test(`the list of hostile texts is long enough to mean something`, () => {
    expect(new Set(hostileMarkdown).size).toBeGreaterThanOrEqual(100);
  });

  test.each(hostileMarkdown)("%j renders to allowed elements and attributes only", (text) => {
    for (const growing of [false, true]) {
      const { root } = show(text, growing);
      expect(violations(root)).toEqual([]);
      cleanup();
    }
  });

  test("raw HTML is shown as it was written", () => {
    const { root } = show("<b onclick=alert(1)>bold</b>\n\nand <i>inline</i>");
    expect(root.textContent).toContain("<b onclick=alert(1)>bold</b>");
    expect(root.textContent).toContain("and <i>inline</i>");
  });

  test("no link has an address that the window could follow", () => {
    const { root } = show(
      "[a](https://good.example/) https://other.example <https://third.example>",
    );
    expect(root.querySelectorAll("[role=link]")).toHaveLength(3);
    expect(root.querySelectorAll("[href], [src], [target], a, form")).toHaveLength(0);
  });

  test("an image becomes its description and its host", () => {
    const { root } = show("![a cat](https://pictures.example/cat.png)");
    expect(root.querySelector("img")).toBeNull();
    expect(root.textContent).toContain("a cat");
    expect(root.textContent).toContain("pictures.example");
  });
});

describe("links", () => {
  test("a press asks for the address in its normal form", () => {
    const { root, opened } = show("[read](https://BÜCHER.example/a%20b)");
    root.querySelector<HTMLElement>("[role=link]")?.click();
    expect(opened).toEqual([
      { url: "https://xn--bcher-kva.example/a%20b", host: "xn--bcher-kva.example" },
    ]);
  });

  test("Enter does the same as a press", () => {
    const { root, opened } = show("[read](https://good.example/)");
    const enter = new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true });
    root.querySelector("[role=link]")?.dispatchEvent(enter);
    expect(opened).toHaveLength(1);
  });

  test("the middle button opens nothing", () => {
    const { root, opened } = show("[read](https://good.example/)");
    const press = new MouseEvent("auxclick", { button: 1, bubbles: true, cancelable: true });
    root.querySelector("[role=link]")?.dispatchEvent(press);
    expect(opened).toEqual([]);
  });

  test("reference definitions anywhere in the text give the address", () => {
    const { root, opened } = show("See [the page][1].\n\nMore text.\n\n[1]: https://good.example/");
    root.querySelector<HTMLElement>("[role=link]")?.click();
    expect(opened[0]?.url).toBe("https://good.example/");
    expect(root.textContent).not.toContain("[1]:");
  });
});

describe("code blocks", () => {
  const long = Array.from({ length: 45 }, (_, index) => `line ${index + 1}`).join("\n");

  test("name their language and colour what they know", () => {
    const { root } = show("```rust\nfn main() {}\n```");
    expect(root.querySelector(".language")?.textContent).toBe("rust");
    expect(root.querySelector(".hljs-keyword")?.textContent).toBe("fn");
    expect(root.querySelector("pre")?.textContent).toBe("fn main() {}");
  });

  test("fold after 30 lines and unfold on request", async () => {
    const { root } = show("```\n" + long + "\n```");
    const shown = () => root.querySelector("pre")?.textContent.split("\n").length;
    expect(shown()).toBe(30);
    const more = [...root.querySelectorAll("button")].find((button) =>
      button.textContent.includes("15 more lines"),
    );
    more?.click();
    await vi.waitFor(() => expect(shown()).toBe(45));
  });

  test("copy gives the whole code, without control characters that a terminal obeys", async () => {
    const written: string[] = [];
    vi.spyOn(navigator.clipboard, "writeText").mockImplementation((text) => {
      written.push(text);
      return Promise.resolve();
    });
    const { root } = show("```\n" + long + "\n\u001b]52;c;aGk=\u0007\tend\n```");
    root.querySelector<HTMLElement>("[aria-label='Copy code']")?.click();
    await vi.waitFor(() => expect(written).toEqual([`${long}\n]52;c;aGk=\tend`]));
  });

  test("show characters that hide or turn text around", () => {
    const { root } = show("```js\nif (a\u202E) {}\n```\n\nand `x\u200By`");
    const marks = [...root.querySelectorAll(".mark")].map((mark) => mark.textContent);
    expect(marks).toEqual(["U+202E", "U+200B"]);
  });

  test("cut a very long line in view and say so", () => {
    const { root } = show("```\n" + "x".repeat(50_000) + "\n```");
    expect(root.querySelector("pre")?.textContent.length).toBeLessThan(21_000);
    expect(root.querySelector("pre")?.textContent).toContain("30,000 more characters");
  });
});

describe("structure", () => {
  test("tables keep their columns, also in a row that is still being written", () => {
    const { root } = show("| a | b |\n| --- | ---: |\n| 1 |", true);
    expect(root.querySelectorAll("th")).toHaveLength(2);
    expect(root.querySelectorAll("td")).toHaveLength(2);
    expect(root.querySelectorAll("td")[1]?.className).toContain("right");
  });

  test("lists, tasks, quotes, headings and strikethrough are elements", () => {
    const { root } = show("# Title\n\n3. three\n4. four\n\n- [x] done\n\n> quoted ~~gone~~\n\n---");
    expect(root.querySelector("h3")?.textContent).toBe("Title");
    expect(root.querySelector("ol")?.getAttribute("start")).toBe("3");
    expect(root.querySelector<HTMLInputElement>("input")?.checked).toBe(true);
    expect(root.querySelector("blockquote del")?.textContent).toBe("gone");
    expect(root.querySelector("hr")).not.toBeNull();
  });

  test("no space is added or lost between the parts of a line", () => {
    const { root } = show("a**b**c *d*`e`, [f](https://g.example).");
    expect(root.querySelector("p")?.textContent).toBe("abc de, f.");
  });

  test("a message of more than 200 KB folds", () => {
    const { root } = show("A paragraph of some words.\n\n".repeat(9000));
    expect(root.textContent).toContain("Show the remaining");
  });
});
