import { test } from "vitest";
import { DataFolder } from "./dataFolder";
import { HearthWindow, type Options } from "./window";

/** What a scenario works with. */
export type Stage = {
  data: DataFolder;
  /** Starts a window on the data folder; the scenario's end closes it. */
  open: (options?: Options) => Promise<HearthWindow>;
};

/**
 * A test with a data folder of its own. Where it fails, a picture of its last window is taken.
 *
 * @param patience milliseconds that it may take, where that is more than others may
 */
export function scenario(
  name: string,
  play: (stage: Stage) => Promise<void>,
  patience?: number,
): void {
  test(
    name,
    async () => {
      const data = await DataFolder.create();
      const windows: HearthWindow[] = [];
      const open = async (options?: Options) => {
        const window = await HearthWindow.open(data, options);
        windows.push(window);
        return window;
      };
      try {
        await play({ data, open });
      } catch (error) {
        const last = windows.at(-1);
        if (last?.isOpen) await last.picture(`failed ${name}`);
        throw error;
      } finally {
        for (const window of windows) await window.close();
        await data.remove();
      }
    },
    patience,
  );
}
