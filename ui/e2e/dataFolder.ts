import { existsSync } from "node:fs";
import {
  cp,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  truncate,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { writeRecital } from "./recital";

const ROOT = resolve(import.meta.dirname, "../..");
const EMBER = join(ROOT, "models/ember");
const RECIPE = join(EMBER, "recipe");
const FIXTURES = resolve(ROOT, "../shared/fixtures");

/** A data folder of its own for one scenario, with the model folders put into it. */
export class DataFolder {
  private constructor(
    /** Everything of this scenario; removed at its end. */
    readonly base: string,
  ) {}

  static async create(): Promise<DataFolder> {
    const folder = new DataFolder(await mkdtemp(join(tmpdir(), "hearth-window-")));
    await mkdir(folder.models, { recursive: true });
    return folder;
  }

  /** What the window is given as its data folder. */
  get path(): string {
    return join(this.base, "data");
  }

  get models(): string {
    return join(this.path, "models");
  }

  /** What runs leave that did not end in order. */
  async unfinishedRuns(): Promise<string[]> {
    return readdir(join(this.path, "conversations", "runs"));
  }

  /** The file from which the window reads what its dialogues for files answer. */
  get dialogueAnswer(): string {
    return join(this.base, "dialogue-answer");
  }

  /**
   * Lets the next dialogues for files answer a path: a file, or a folder that ends in a slash and gets a file of the
   * name that the dialogue proposes. Nothing stands for a dialogue that is closed.
   */
  async answerDialogue(path: string): Promise<void> {
    await writeFile(this.dialogueAnswer, path);
  }

  /** Puts an intact copy of the built-in model there. */
  async addModel(id: string): Promise<string> {
    const folder = join(this.models, id);
    await cp(EMBER, folder, { recursive: true, filter: (path) => !path.startsWith(RECIPE) });
    return folder;
  }

  /** Puts a model there that answers everything by this text, and lets it be the one that answers. */
  async useModelThatWrites(text: string, contextLength?: number): Promise<void> {
    await writeRecital(join(this.models, "recital"), text, contextLength);
    await writeFile(join(this.path, "settings.json"), JSON.stringify({ model: "recital" }));
  }

  /** A model whose tokenizer is cut off in the middle. */
  async addModelWithDamagedTokenizer(id: string): Promise<boolean> {
    await cutInHalf(join(await this.addModel(id), "tokenizer.json"));
    return true;
  }

  /** A model whose graph is cut off in the middle, as an interrupted copy leaves it. */
  async addModelWithTruncatedGraph(id: string): Promise<boolean> {
    await cutInHalf(join(await this.addModel(id), "model.onnx"));
    return true;
  }

  /**
   * A model whose weights lie in a second file that is not there.
   *
   * @returns false where the fixtures are not at hand
   */
  async addModelWithoutItsDataFile(id: string): Promise<boolean> {
    const source = join(FIXTURES, "models/concat16-q4");
    if (!existsSync(source)) return false;
    const folder = join(this.models, id);
    await cp(source, folder, { recursive: true });
    await rm(join(folder, "model.onnx_data"));
    return true;
  }

  /** A file that bears the runtime's name and is no library. */
  async fileThatIsNoLibrary(): Promise<string> {
    const path = join(this.base, "libonnxruntime.so");
    await writeFile(path, "this is text\n");
    return path;
  }

  /** A path at which no folder can be made, for administrators neither: a file is in the way. */
  async unwritablePath(): Promise<string> {
    const file = join(this.base, "file");
    await writeFile(file, "");
    return join(file, "data");
  }

  async remove(): Promise<void> {
    await rm(this.base, { recursive: true, force: true, maxRetries: 5 });
  }
}

async function cutInHalf(path: string): Promise<void> {
  const { size } = await stat(path);
  await truncate(path, Math.floor(size / 2));
  const { length } = await readFile(path);
  if (length >= size) throw new Error(`${path} was not cut`);
}
