//! How large a constant can be at most whose shape is not known.
//!
//! What a runtime computes while it loads is counted; of a constant that nobody can measure, this is what
//! is counted instead. An operator that is not listed could make anything of little.

use super::kinds::{KEEP_SHAPE, NO_MORE, PAIRWISE, PRODUCTS};
use super::tensors::element_bits;
use super::value::Value;
use super::values::{MOST_DIMENSIONS, attribute};
use crate::proto::NodeProto;

/// The bytes of the widest number.
const WIDEST: u64 = 16;

/// The most bytes that `node` makes of constants; `None` where it could be anything.
pub(super) fn most_bytes(node: &NodeProto, inputs: &[Option<&Value>]) -> Option<u64> {
    let input = |index: usize| inputs.get(index).copied().flatten();
    let given = given_bytes(inputs);
    let elements = || {
        let each = inputs.iter().flatten().map(|value| value.most_elements().max(1));
        each.fold(1, u64::saturating_mul)
    };
    let amounts = |index: usize| {
        let amounts = input(index)?.numbers.as_ref()?.whole()?.iter();
        Some(amounts.fold(1, |product: u64, &size| product.saturating_mul(u64::try_from(size).unwrap_or(1))))
    };
    let first = input(0).map_or(0, Value::most_elements);
    Some(match node.op_type() {
        "Tile" | "Expand" => first.saturating_mul(amounts(1)?).saturating_mul(width(input(0))),
        "OneHot" => first.saturating_mul(amounts(1)?).saturating_mul(width(input(2))),
        "Cast" => {
            let to = attribute(node, "to").and_then(|to| to.i).and_then(|to| i32::try_from(to).ok());
            first.saturating_mul(to.and_then(element_bits).map_or(WIDEST, |bits| bits.div_ceil(8)))
        }
        // The rows stay, whatever they are; there are no more than numbers.
        "MatMulNBits" => {
            let columns =
                attribute(node, "N").and_then(|given| given.i).and_then(|n| u64::try_from(n).ok())?;
            first.saturating_mul(columns).saturating_mul(WIDEST)
        }
        // Places are numbers of eight bytes, one for each dimension.
        "NonZero" => {
            let rank =
                input(0).and_then(|value| value.shape.as_ref()).map_or(MOST_DIMENSIONS, Vec::len) as u64;
            first.saturating_mul(rank).saturating_mul(8)
        }
        "TopK" | "ArgMax" | "ArgMin" | "Unique" => first.saturating_mul(width(input(0)).max(8)),
        "Conv" | "ConvInteger" | "QLinearConv" | "FusedConv" if !is_padded(node) => {
            elements().saturating_mul(WIDEST)
        }
        "AveragePool" | "MaxPool" | "LpPool" if !is_padded(node) => first.saturating_mul(WIDEST),
        operator if PAIRWISE.contains(&operator) || PRODUCTS.contains(&operator) => {
            elements().saturating_mul(inputs.iter().map(|input| width(*input)).fold(8, u64::max))
        }
        operator if KEEP_SHAPE.contains(&operator) => given.saturating_mul(WIDEST),
        "Shape" | "Size" => 8 * MOST_DIMENSIONS as u64,
        operator if NO_MORE.contains(&operator) => given,
        _ => return None,
    })
}

/// The bytes of all inputs.
pub(super) fn given_bytes(inputs: &[Option<&Value>]) -> u64 {
    inputs.iter().flatten().map(|value| value.most_bytes).fold(0, u64::saturating_add)
}

/// The bytes of an element of a value.
fn width(value: Option<&Value>) -> u64 {
    value.and_then(|value| element_bits(value.element)).map_or(WIDEST, |bits| bits.div_ceil(8))
}

/// Whether a window may reach beyond what it is moved over.
fn is_padded(node: &NodeProto) -> bool {
    let pads = attribute(node, "pads").is_some_and(|pads| pads.ints.iter().any(|&pad| pad != 0));
    pads || attribute(node, "auto_pad").is_some_and(|given| given.s() != b"NOTSET" && given.s() != b"VALID")
}
