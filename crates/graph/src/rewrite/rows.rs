//! How wide the rows of values are, found by going back to the weights that make them.

use std::collections::HashMap;

use super::wiring::Wiring;
use super::{NORM, SUM_NORM, integer};
use crate::proto::{NodeProto, data_type};

/// What is known of the rows of values, found by going back to the weights that make them.
pub(super) struct Rows<'w, 'g> {
    wiring: &'w Wiring<'g>,
    /// The width of rows of f32, by value; `None` where they are not known to be that.
    known: HashMap<String, Option<i64>>,
}

impl<'w, 'g> Rows<'w, 'g> {
    pub(super) fn new(wiring: &'w Wiring<'g>) -> Self {
        Self { wiring, known: HashMap::new() }
    }

    /// Whether `name` holds f32 rows of `width`, one for each position.
    pub(super) fn are(&mut self, name: &str, width: i64) -> bool {
        self.width(name) == Some(width)
    }

    pub(super) fn is_f32(&mut self, name: &str) -> bool {
        let is_cast = |node: &NodeProto| integer(node, "to") == Some(i64::from(data_type::FLOAT));
        self.wiring.made_by(name, "Cast").is_some_and(is_cast) || self.width(name).is_some()
    }

    /// The width of the f32 rows of `name`. Goes back as far as it must without recursion: residuals of
    /// deep models are long.
    fn width(&mut self, name: &str) -> Option<i64> {
        let mut pending = vec![name.to_owned()];
        while let Some(name) = pending.last().cloned() {
            if self.known.contains_key(&name) {
                pending.pop();
                continue;
            }
            let open: Vec<String> =
                self.follows_from(&name).into_iter().filter(|name| !self.known.contains_key(name)).collect();
            if open.is_empty() {
                let width = self.derive(&name);
                self.known.insert(name, width);
                pending.pop();
            } else if pending.len() > self.wiring.graph().nodes.len() {
                // A circle is no graph.
                return None;
            } else {
                pending.extend(open);
            }
        }
        self.known.get(name).copied().flatten()
    }

    /// The values from which the rows of `name` follow.
    fn follows_from(&self, name: &str) -> Vec<String> {
        let Some(node) = self.wiring.maker(name).map(|maker| self.wiring.node(maker)) else {
            return Vec::new();
        };
        match node.op_type() {
            "Add" | "Mul" => {
                node.input.iter().filter(|name| self.wiring.constant(name).is_none()).cloned().collect()
            }
            "Cast" | NORM | SUM_NORM => node.input.iter().take(1).cloned().collect(),
            _ => Vec::new(),
        }
    }

    /// The width of `name`, where those of all values from which it follows are known or given up.
    fn derive(&self, name: &str) -> Option<i64> {
        let wiring = self.wiring;
        let node = wiring.node(wiring.maker(name)?);
        let tensor = |input: usize| node.input.get(input).and_then(|name| wiring.initializer(name));
        let is_f32 =
            |input: usize| tensor(input).is_some_and(|tensor| tensor.data_type() == data_type::FLOAT);
        let second = |input: usize| match tensor(input).map(|tensor| tensor.dims.as_slice()) {
            Some([_, width]) => Some(*width),
            _ => None,
        };
        let of = |name: &String| self.known.get(name).copied().flatten();
        match node.op_type() {
            "MatMulNBits" if is_f32(2) => integer(node, "N"),
            "MatMul" if is_f32(1) => second(1),
            "Gather" if is_f32(0) && integer(node, "axis").unwrap_or(0) == 0 => second(0),
            "GatherBlockQuantized" if is_f32(2) => {
                let block = integer(node, "block_size").unwrap_or(128);
                let (packed, bits) = (second(0)?, integer(node, "bits").unwrap_or(4));
                let width = match tensor(0)?.data_type() {
                    data_type::UINT8 => packed.checked_mul(8)?.checked_div(bits)?,
                    _ => packed,
                };
                (second(2)?.checked_mul(block)? >= width).then_some(width)
            }
            "DequantizeLinear" if is_f32(1) => {
                // The rows of a quantised table, one for each position.
                let gather = wiring.made_by(node.input.first()?, "Gather")?;
                match wiring.initializer(gather.input.first()?)?.dims.as_slice() {
                    [_, width] => Some(*width),
                    _ => None,
                }
            }
            "Mul" if node.input.len() == 2 => self.scaled(node),
            "Cast" if integer(node, "to") == Some(i64::from(data_type::FLOAT)) => of(node.input.first()?),
            NORM | SUM_NORM => of(node.input.first()?),
            "Add" => {
                let mut widths = node.input.iter().map(|name| match wiring.constant(name) {
                    // A bias is as wide as the rows that it is added to.
                    Some(tensor) => match tensor.dims.as_slice() {
                        [width] if tensor.data_type() == data_type::FLOAT => Some(*width),
                        _ => None,
                    },
                    None => of(name),
                });
                let first = widths.next()??;
                widths.all(|width| width == Some(first)).then_some(first)
            }
            _ => None,
        }
    }

    /// The width of rows times one number, or of a product of 8-bit integers times its scale.
    fn scaled(&self, node: &NodeProto) -> Option<i64> {
        let wiring = self.wiring;
        let [left, right] = node.input.as_slice() else { return None };
        let integers = |name: &str| {
            let cast = wiring.made_by(name, "Cast")?;
            let is_f32 = integer(cast, "to") == Some(i64::from(data_type::FLOAT));
            let product = wiring.made_by(cast.input.first()?, "MatMulInteger").filter(|_| is_f32)?;
            match wiring.initializer(product.input.get(1)?)?.dims.as_slice() {
                [_, width] => Some(*width),
                _ => None,
            }
        };
        if let Some(width) = integers(left).or_else(|| integers(right)) {
            return Some(width);
        }
        let of = |name: &String| self.known.get(name).copied().flatten();
        let is_weight = |name: &str, width: i64| {
            wiring.constant(name).is_some_and(|tensor| {
                tensor.data_type() == data_type::FLOAT
                    && (tensor.dims.iter().all(|&size| size == 1) || tensor.dims == [width])
            })
        };
        match (of(left), of(right)) {
            (Some(width), None) if is_weight(right, width) => Some(width),
            (None, Some(width)) if is_weight(left, width) => Some(width),
            _ => None,
        }
    }
}
