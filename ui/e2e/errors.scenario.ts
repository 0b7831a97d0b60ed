import { expect } from "vitest";
import type { DataFolder } from "./dataFolder";
import { scenario } from "./scenario";

type Damage = { what: string; make: (data: DataFolder) => Promise<boolean>; names: RegExp };

const DAMAGED_MODELS: Damage[] = [
  {
    what: "a damaged tokenizer",
    make: (data) => data.addModelWithDamagedTokenizer("damaged"),
    names: /tokenizer/,
  },
  {
    what: "a truncated graph",
    make: (data) => data.addModelWithTruncatedGraph("damaged"),
    names: /model\.onnx/,
  },
  {
    what: "a missing data file",
    make: (data) => data.addModelWithoutItsDataFile("damaged"),
    names: /model\.onnx_data/,
  },
];

for (const { what, make, names } of DAMAGED_MODELS) {
  scenario(`${what} is said in the window and nothing is lost`, async ({ data, open }) => {
    if (!(await make(data))) {
      if (process.env["CI"]) throw new Error("the fixtures are missing");
      console.log("skipped: the fixtures are not beside the project");
      return;
    }
    const window = await open();
    await window.modelBecomes("ember", "ready");
    const reply = await window.ask("My name is Brindlo.");
    const composer = await window.find("composer");
    await composer.sendKeys("an unfinished thought");

    await window.select("damaged");
    expect(await window.errorText()).toMatch(names);
    await window.picture(`${what} chosen`);
    await window.modelBecomes("damaged", "failed");
    expect((await window.replies())[0]).toBe(reply);
    expect(await composer.getAttribute("value")).toBe("an unfinished thought");

    await window.select("ember");
    await window.modelBecomes("ember", "ready");
    await composer.clear();
    expect(await window.ask("What is my name?"), "the intact model goes on").not.toBe("");
  });
}

scenario("a wrong library is said in the window and the draft stays", async ({ data, open }) => {
  const library = await data.fileThatIsNoLibrary();
  const window = await open({ environment: { HEARTH_ONNXRUNTIME: library } });
  expect(await window.errorText()).toContain(library);
  await (await window.find("composer")).sendKeys("an unfinished thought");
  expect(await (await window.find("composer")).getAttribute("value")).toBe("an unfinished thought");
  await window.picture("wrong library");
});

scenario(
  "a data folder that cannot be written is said, and the chat works",
  async ({ data, open }) => {
    const path = await data.unwritablePath();
    const window = await open({ environment: { HEARTH_DATA_DIR: path } });
    const shown = await window.until("a notice or an error names the folder", async () => {
      const texts = [...(await window.texts("notice")), ...(await window.texts("error"))].join(
        "\n",
      );
      return texts.includes(path) && texts;
    });
    expect(shown).toContain(path);
    await window.modelBecomes("ember", "ready");
    expect(await window.ask("What can you do?")).not.toBe("");
    await window.picture("unwritable data folder");
  },
);
