// The few messages of the ONNX format that a small graph needs, written as Protocol Buffers.
// The numbers are those of onnx.proto.

/** A number, a text, raw bytes or a message, with the number of its field. */
type Field = [number: number, value: bigint | string | Uint8Array];

const VARINT = 0n;
const LENGTH_DELIMITED = 2n;

/** What a tensor holds. */
export const FLOAT = 1n;
export const INT64 = 7n;

export type Dimension = number | string;

/** A message of these fields. */
function message(...fields: Field[]): Uint8Array {
  return Buffer.concat(
    fields.flatMap(([number, value]) => {
      const key = BigInt(number) << 3n;
      if (typeof value === "bigint") return [varint(key | VARINT), varint(value)];
      const bytes = typeof value === "string" ? Buffer.from(value) : value;
      return [varint(key | LENGTH_DELIMITED), varint(BigInt(bytes.length)), bytes];
    }),
  );
}

function varint(value: bigint): Uint8Array {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, value);
  do {
    const more = rest > 0x7fn;
    bytes.push(Number(rest & 0x7fn) | (more ? 0x80 : 0));
    rest >>= 7n;
  } while (rest > 0n);
  return Uint8Array.from(bytes);
}

/** A node's setting: an integer or a tensor. */
function attribute(name: string, value: bigint | Uint8Array): Uint8Array {
  const [INTEGER, TENSOR] = [2n, 4n];
  return typeof value === "bigint"
    ? message([1, name], [3, value], [20, INTEGER])
    : message([1, name], [5, value], [20, TENSOR]);
}

/** One operator between named tensors. */
export function node(
  operator: string,
  inputs: string[],
  output: string,
  attributes: Record<string, bigint | Uint8Array> = {},
): Uint8Array {
  return message(
    ...inputs.map((input): Field => [1, input]),
    [2, output],
    [3, output],
    [4, operator],
    ...Object.entries(attributes).map(([name, value]): Field => [5, attribute(name, value)]),
  );
}

/** Integers as a tensor; without dimensions it is a scalar. */
export function integers(name: string, values: number[], dimensions = [values.length]): Uint8Array {
  return tensor(name, INT64, new BigInt64Array(values.map(BigInt)), dimensions);
}

export function floats(name: string, values: number[], dimensions = [values.length]): Uint8Array {
  return tensor(name, FLOAT, new Float32Array(values), dimensions);
}

function tensor(
  name: string,
  type: bigint,
  values: ArrayBufferView,
  dimensions: number[],
): Uint8Array {
  return message(
    ...dimensions.map((dimension): Field => [1, BigInt(dimension)]),
    [2, type],
    [8, name],
    [9, Buffer.from(values.buffer)],
  );
}

/** An input or output of a graph. */
export function port(name: string, type: bigint, dimensions: Dimension[]): Uint8Array {
  const shape = message(
    ...dimensions.map((dimension): Field => {
      const known = typeof dimension === "number";
      return [1, known ? message([1, BigInt(dimension)]) : message([2, dimension])];
    }),
  );
  return message([1, name], [2, message([1, message([1, type], [2, shape])])]);
}

export type Graph = {
  nodes: Uint8Array[];
  constants: Uint8Array[];
  inputs: Uint8Array[];
  outputs: Uint8Array[];
};

/** A whole model file of this graph. */
export function model(graph: Graph): Uint8Array {
  const [FORMAT, OPERATORS] = [8n, 17n];
  const body = message(
    ...graph.nodes.map((node): Field => [1, node]),
    [2, "graph"],
    ...graph.constants.map((constant): Field => [5, constant]),
    ...graph.inputs.map((input): Field => [11, input]),
    ...graph.outputs.map((output): Field => [12, output]),
  );
  return message([1, FORMAT], [7, body], [8, message([1, ""], [2, OPERATORS])]);
}
