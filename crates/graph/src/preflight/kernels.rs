//! Operators of the runtime whose kernels trust their attributes: those must fit the weights.

use super::finding::Problem;
use super::value::Value;
use super::values::attribute;
use crate::proto::{NodeProto, data_type};

/// The most heads, rows or columns that a kernel is asked for.
const MOST_HEADS: i64 = 65_536;
const MOST_SIZE: i64 = 1 << 31;

/// Checks one node, whose inputs are known as far as they can be.
pub(super) fn check(node: &NodeProto, inputs: &[Option<&Value>]) -> Vec<Problem> {
    let mut problems = heads(node);
    let sizes = match node.op_type() {
        "MatMulNBits" => matmul_n_bits(node, inputs),
        "MatMulBnb4" => matmul_bnb4(node, inputs),
        "GatherBlockQuantized" => block_size(node).map(drop),
        _ => Ok(()),
    };
    problems.extend(sizes.err());
    problems
}

/// Head counts of attention in all its forms. A rotary embedding may leave them at 0.
fn heads(node: &NodeProto) -> Vec<Problem> {
    let least = i64::from(node.op_type() != "RotaryEmbedding");
    let names = ["num_heads", "kv_num_heads", "q_num_heads"];
    let given = names.into_iter().filter_map(|name| Some((name, attribute(node, name)?.i?)));
    let mut problems: Vec<_> = given
        .clone()
        .filter(|(_, heads)| !(least..=MOST_HEADS).contains(heads))
        .map(|(name, heads)| Problem::Attribute { name, value: heads.to_string() })
        .collect();
    if node.op_type() == "GroupQueryAttention" {
        let find = |wanted| given.clone().find(|(name, _)| *name == wanted).map(|(_, heads)| heads);
        match (find("num_heads"), find("kv_num_heads")) {
            (Some(heads), Some(shared)) if shared != 0 && heads.checked_rem(shared) == Some(0) => {}
            (_, None) => problems.push(missing("kv_num_heads")),
            (None, _) => problems.push(missing("num_heads")),
            (Some(heads), Some(shared)) => {
                let value = format!("{shared}, which does not divide {heads} heads");
                problems.push(Problem::Attribute { name: "kv_num_heads", value });
            }
        }
    }
    problems
}

fn missing(name: &'static str) -> Problem {
    Problem::Attribute { name, value: "missing".to_owned() }
}

fn size(node: &NodeProto, name: &'static str, least: i64, most: i64) -> Result<u64, Problem> {
    let value = attribute(node, name).and_then(|given| given.i).ok_or_else(|| missing(name))?;
    match u64::try_from(value) {
        Ok(size) if (least..=most).contains(&value) => Ok(size),
        _ => Err(Problem::Attribute { name, value: value.to_string() }),
    }
}

fn block_size(node: &NodeProto) -> Result<u64, Problem> {
    let name = "block_size";
    if node.op_type() == "GatherBlockQuantized" && attribute(node, name).is_none() {
        return Ok(128);
    }
    let block = size(node, name, 16, 1 << 16)?;
    if block.is_power_of_two() {
        Ok(block)
    } else {
        Err(Problem::Attribute { name, value: block.to_string() })
    }
}

fn matmul_n_bits(node: &NodeProto, inputs: &[Option<&Value>]) -> Result<(), Problem> {
    let columns = size(node, "N", 1, MOST_SIZE)?;
    let rows = size(node, "K", 1, MOST_SIZE)?;
    let block = block_size(node)?;
    let bits = match attribute(node, "bits").and_then(|given| given.i) {
        None => 4,
        Some(bits @ (2 | 4 | 8)) => bits as u64,
        Some(bits) => return Err(Problem::Attribute { name: "bits", value: bits.to_string() }),
    };
    let blocks = rows.div_ceil(block);
    let scales = columns * blocks;
    exact(inputs, 1, "B", scales.saturating_mul(block * bits / 8))?;
    exact(inputs, 2, "scales", scales)?;
    if let Some(points) = present(inputs, 3) {
        // Bytes are packed as the weights are; numbers of the scales' type stand one for each block.
        let packed = columns * (blocks * bits).div_ceil(8);
        let expected = if points.element == data_type::UINT8 { packed } else { scales };
        exact(inputs, 3, "zero_points", expected)?;
    }
    if present(inputs, 4).is_some() {
        let found = count(inputs, 4, "g_idx")?;
        let padded = blocks * block;
        if found != rows && found != padded {
            return Err(Problem::WeightSize { input: "g_idx", expected: rows, found });
        }
    }
    match present(inputs, 5) {
        Some(_) => exact(inputs, 5, "bias", columns),
        None => Ok(()),
    }
}

fn matmul_bnb4(node: &NodeProto, inputs: &[Option<&Value>]) -> Result<(), Problem> {
    let columns = size(node, "N", 1, MOST_SIZE)?;
    let rows = size(node, "K", 1, MOST_SIZE)?;
    let block = block_size(node)?;
    let weights = columns * rows;
    exact(inputs, 1, "B", weights.div_ceil(2))?;
    exact(inputs, 2, "absmax", weights.div_ceil(block))
}

fn present<'v>(inputs: &[Option<&'v Value>], index: usize) -> Option<&'v Value> {
    inputs.get(index).copied().flatten()
}

/// The elements of a weight. What a file says of the shape of a value that comes at run time proves nothing.
fn count(inputs: &[Option<&Value>], index: usize, input: &'static str) -> Result<u64, Problem> {
    let weights = present(inputs, index).filter(|value| value.is_constant);
    weights.and_then(Value::elements).ok_or(Problem::UnknownWeights { input })
}

fn exact(inputs: &[Option<&Value>], index: usize, input: &'static str, expected: u64) -> Result<(), Problem> {
    match count(inputs, index, input)? {
        found if found == expected => Ok(()),
        found => Err(Problem::WeightSize { input, expected, found }),
    }
}
