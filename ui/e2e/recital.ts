// A model that recites: whatever it is asked, it writes one given text, word by word. It is a true graph
// that runs through the whole of the engine, and it makes replies as long and as rich as a scenario needs.

import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { FLOAT, floats, INT64, integers, model, node, port } from "./onnx";

const START = "<|start|>";
const END = "<|end|>";
/** Rows and columns of a product that every token costs, so that a word takes some milliseconds. */
const WORK = 3072;

/** Writes a model folder whose replies are this text, and which sees so many tokens at most. */
export async function writeRecital(
  folder: string,
  text: string,
  contextLength = 8192,
): Promise<void> {
  const bytes = Array.from({ length: 256 }, (_, byte) => letter(byte));
  const words = (text.match(/\s*\S+|\s+$/gu) ?? []).map(letters);
  const vocabulary = [...new Set([START, END, ...bytes, ...words])];
  const ids = new Map(vocabulary.map((token, id) => [token, id]));
  const script = [...words, END].map((word) => ids.get(word) ?? 0);
  const files = {
    "model.onnx": graph(script, vocabulary.length),
    "tokenizer.json": JSON.stringify(tokenizer(ids)),
    "tokenizer_config.json": JSON.stringify({
      eos_token: END,
      chat_template:
        `{% for message in messages %}${START}{{ message['content'] }}${END}{% endfor %}` +
        `{% if add_generation_prompt %}${START}{% endif %}`,
    }),
    "config.json": JSON.stringify({
      model_type: "recital",
      vocab_size: vocabulary.length,
      max_position_embeddings: contextLength,
      eos_token_id: 1,
    }),
    "generation_config.json": JSON.stringify({ do_sample: false, eos_token_id: 1 }),
  };
  await mkdir(folder, { recursive: true });
  for (const [name, content] of Object.entries(files)) await writeFile(join(folder, name), content);
}

/**
 * The next word is the one whose place in the text is the number of tokens since the last start mark. Those
 * are known from the past, whose rows hold the ids of the tokens.
 */
function graph(script: number[], vocabulary: number): Uint8Array {
  const rows = (length: string) => [1, 1, length, 1];
  return model({
    inputs: [
      port("input_ids", INT64, [1, "tokens"]),
      port("past_key_values.0.key", FLOAT, rows("past")),
      port("past_key_values.0.value", FLOAT, rows("past")),
    ],
    outputs: [
      port("logits", FLOAT, [1, 1, vocabulary]),
      port("present.0.key", FLOAT, rows("total")),
      port("present.0.value", FLOAT, rows("total")),
    ],
    constants: [
      integers("row_axes", [1, 3]),
      integers("flat", [-1]),
      integers("zero", [0], []),
      integers("one", [1], []),
      integers("start", [0]),
      integers("last_place", [script.length - 1], []),
      integers("script", script),
      integers(
        "vocabulary",
        Array.from({ length: vocabulary }, (_, id) => id),
        [1, 1, vocabulary],
      ),
      integers("work_shape", [WORK, WORK]),
      integers("work_row", [1, WORK]),
      floats("certain", [30], []),
      floats("nothing", [0], []),
    ],
    nodes: [
      node("Unsqueeze", ["input_ids", "row_axes"], "new_ids"),
      node("Cast", ["new_ids"], "new_rows", { to: FLOAT }),
      node("Concat", ["past_key_values.0.key", "new_rows"], "present.0.key", { axis: 2n }),
      node("Concat", ["past_key_values.0.value", "new_rows"], "present.0.value", { axis: 2n }),
      node("Reshape", ["present.0.key", "flat"], "all_rows"),
      node("Cast", ["all_rows"], "all_ids", { to: INT64 }),
      node("Size", ["all_ids"], "count"),
      node("Range", ["zero", "count", "one"], "places"),
      node("Equal", ["all_ids", "start"], "is_start"),
      node("Where", ["is_start", "places", "zero"], "start_places"),
      node("ReduceMax", ["start_places"], "last_start", { keepdims: 0n }),
      node("Sub", ["count", "last_start"], "written_and_start"),
      node("Sub", ["written_and_start", "one"], "written"),
      node("Min", ["written", "last_place"], "place"),
      node("Gather", ["script", "place"], "next"),
      node("Equal", ["vocabulary", "next"], "is_next"),
      node("Cast", ["is_next"], "choice", { to: FLOAT }),
      node("Mul", ["choice", "certain"], "sure"),
      ...work(),
      node("Add", ["sure", "no_difference"], "logits"),
    ],
  });
}

/** A product of matrices that depends on the input and changes nothing. */
function work(): Uint8Array[] {
  return [
    node("Cast", ["next"], "next_number", { to: FLOAT }),
    node("Expand", ["next_number", "work_row"], "work_input"),
    node("ConstantOfShape", ["work_shape"], "work_weights"),
    node("MatMul", ["work_input", "work_weights"], "work_output"),
    node("ReduceMax", ["work_output"], "work_result", { keepdims: 0n }),
    node("Mul", ["work_result", "nothing"], "no_difference"),
  ];
}

/** Text is encoded byte by byte; the words of the recital are only ever decoded. */
function tokenizer(ids: Map<string, number>): object {
  const special = { single_word: false, lstrip: false, rstrip: false, normalized: false };
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true };
  return {
    version: "1.0",
    added_tokens: [START, END].map((content, id) => ({ id, content, ...special, special: true })),
    normalizer: null,
    pre_tokenizer: { ...byteLevel, use_regex: false },
    post_processor: null,
    decoder: { ...byteLevel, use_regex: true },
    model: { type: "BPE", vocab: Object.fromEntries(ids), merges: [] },
  };
}

function letters(text: string): string {
  return [...Buffer.from(text)].map(letter).join("");
}

/** The character by which a byte-level vocabulary writes a byte: itself, or one beyond 255 if it is unseen. */
function letter(byte: number): string {
  const isSeen = (value: number) =>
    (value > 0x20 && value < 0x7f) || (value > 0xa0 && value !== 0xad);
  if (isSeen(byte)) return String.fromCharCode(byte);
  const unseenBefore = Array.from({ length: byte }, (_, value) => value).filter(
    (value) => !isSeen(value),
  );
  return String.fromCharCode(256 + unseenBefore.length);
}
