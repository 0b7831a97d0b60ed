import { expect } from "vitest";
import { scenario } from "./scenario";
import { startAgain } from "./window";

scenario(
  "another model is chosen, answers, and is remembered by the next start",
  async ({ data, open }) => {
    await data.addModel("second");
    const window = await open();
    await window.modelBecomes("ember", "ready");
    const builtIn = await window.ask("My name is Brindlo.");
    await window.option("second");
    await window.picture("model picker");
    await window.select("second");
    await window.modelBecomes("second", "ready");
    await window.modelBecomes("ember", "available");
    expect((await window.replies())[0], "a switch loses no message").toBe(builtIn);
    expect(await window.ask("What can you do?")).not.toBe("");
    await window.picture("switched model");
    await window.close();

    const again = await open();
    await again.modelBecomes("second", "ready");
    await again.modelBecomes("ember", "available");
    await again.picture("restarted");
  },
);

scenario("a second start brings no second window", async ({ data, open }) => {
  const window = await open();
  await window.modelBecomes("ember", "ready");
  const exitCode = await startAgain(data);
  expect(exitCode, "the second start must hand over to the first and end").toBe(0);
  expect(await window.driver.getAllWindowHandles()).toHaveLength(1);
  expect(await window.ask("What can you do?")).not.toBe("");
});
