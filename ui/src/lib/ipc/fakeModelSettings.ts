// The settings of the models of the in-memory backend.

import { AppError } from "./errors";
import type { Model, ModelChoice, ModelNumberName, ModelSetting, ModelSettings } from "./index";

const BYTES_PER_TOKEN = 114_688;
const FITS_TO = 9_600_000_000;
const TIGHT_TO = 13_600_000_000;

type About = Omit<ModelSetting, "name" | "chosen">;

const about = (
  least: number,
  most: number,
  otherwise: number | null,
  source: ModelSetting["source"],
  isWhole = false,
): About => ({ least, most, otherwise, source, isWhole });

const numbers: Record<ModelNumberName, About> = {
  temperature: about(0, 100, 0.6, "model"),
  topP: about(0, 1, 0.95, "model"),
  topK: about(0, 1_000_000, 20, "catalogue", true),
  minP: about(0, 1, 0, "hearth"),
  repetitionPenalty: about(0.01, 100, 1, "hearth"),
  presencePenalty: about(-100, 100, 0, "hearth"),
  frequencyPenalty: about(-100, 100, 0, "hearth"),
  maxTokens: about(1, 1_000_000, 4096, "hearth", true),
  threads: about(1, 1024, 4, "machine", true),
  context: about(64, 32_768, 32_768, "model", true),
};

export class FakeModelSettings {
  #choices = new Map<string, ModelChoice>();

  read(model: Model): ModelSettings {
    const choice = this.#choices.get(model.id);
    const chosen = (name: ModelNumberName) =>
      choice?.numbers.find((number) => number.name === name)?.value ?? null;
    const names = Object.keys(numbers) as ModelNumberName[];
    return {
      system: choice?.system ?? null,
      numbers: names.map((name) => ({ name, ...numbers[name], chosen: chosen(name) })),
      memory: {
        modelBytes: model.sizeBytes + 300_000_000,
        bytesPerToken: BYTES_PER_TOKEN,
        fitsToBytes: FITS_TO,
        tightToBytes: TIGHT_TO,
      },
    };
  }

  set(model: Model, choice: ModelChoice): ModelSettings {
    for (const { name, value } of choice.numbers) {
      const { least, most } = numbers[name];
      if (value < least || value > most) {
        throw new AppError({
          code: "settingRefused",
          message: `\`${name}\` is refused: it is ${value}; it must be a number between ${least} and ${most}`,
        });
      }
    }
    this.#choices.set(model.id, structuredClone(choice));
    return this.read(model);
  }
}
