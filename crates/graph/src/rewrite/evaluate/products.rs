//! Products, sums along axes, and the operators of which only the shape is asked.

use super::tensor::{MOST_NUMBERS, Tensor, common_shape, count};
use super::{attribute, axis, int};
use crate::proto::NodeProto;

pub(super) fn evaluate(node: &NodeProto, inputs: &[Option<&Tensor>]) -> Option<Tensor> {
    let first = inputs.first().copied().flatten()?;
    match node.op_type() {
        "MatMul" | "MatMulInteger" => matmul(first, inputs.get(1).copied().flatten()?),
        "MatMulNBits" | "MatMulBnb4" => {
            let mut shape = first.shape().to_vec();
            *shape.last_mut()? = usize::try_from(int(node, "N", 0)).ok()?;
            Some(Tensor::shaped(&shape))
        }
        "Softmax" => softmax(first, int(node, "axis", -1)),
        "ReduceSum" | "ReduceMean" | "ReduceMax" | "ReduceMin" => reduce(node, first, inputs),
        // These keep the shape of what they change.
        "SimplifiedLayerNormalization"
        | "LayerNormalization"
        | "RMSNormalization"
        | "Gelu"
        | "FastGelu"
        | "QuickGelu"
        | "BiasGelu"
        | "Erf"
        | "Relu"
        | "QuantizeLinear"
        | "DequantizeLinear"
        | "Softplus" => Some(Tensor::shaped(first.shape())),
        _ => None,
    }
}

/// The 8-bit numbers of an input, their scale and their zero point.
pub(super) fn rounded(inputs: &[Option<&Tensor>]) -> Option<Vec<Tensor>> {
    let first = inputs.first().copied().flatten()?;
    Some(vec![Tensor::shaped(first.shape()), Tensor::shaped(&[]), Tensor::shaped(&[])])
}

/// A norm of a sum, and the sum as its last output.
pub(super) fn skipped(inputs: &[Option<&Tensor>]) -> Option<Vec<Tensor>> {
    let shape = inputs.first().copied().flatten()?.shape();
    let statistics = || Tensor::shaped(&shape[..shape.len().saturating_sub(1)]);
    Some(vec![Tensor::shaped(shape), statistics(), statistics(), Tensor::shaped(shape)])
}

/// The multiplications that a node asks for, where they are many for its size.
pub(super) fn steps(node: &NodeProto, inputs: &[Option<&Tensor>]) -> u64 {
    let (Some(Some(left)), Some(Some(right))) = (inputs.first(), inputs.get(1)) else { return 0 };
    if node.op_type() != "MatMul" || left.numbers().is_none() || right.numbers().is_none() {
        return 0;
    }
    let ([.., rows, _], [.., columns]) = (left.shape(), right.shape()) else { return 0 };
    let all = |tensor: &Tensor, times: usize| count(tensor.shape()).unwrap_or(0).saturating_mul(times) as u64;
    // Either may be repeated along the axes before.
    all(left, *columns).max(all(right, *rows))
}

fn matmul(left: &Tensor, right: &Tensor) -> Option<Tensor> {
    let ([before_left @ .., rows, inner], [before_right @ .., depth, columns]) =
        (left.shape(), right.shape())
    else {
        return None;
    };
    if inner != depth {
        return None;
    }
    let (rows, inner, columns) = (*rows, *inner, *columns);
    let outer = common_shape(before_left, before_right)?;
    let shape = [outer.as_slice(), &[rows, columns]].concat();
    let is_small = count(&shape).is_some_and(|count| count <= MOST_NUMBERS);
    if left.numbers().is_none() || right.numbers().is_none() || !is_small {
        return Some(Tensor::shaped(&shape));
    }
    let left = left.broadcast(&[outer.as_slice(), &[rows, inner]].concat())?;
    let right = right.broadcast(&[outer.as_slice(), &[inner, columns]].concat())?;
    let (left, right) = (left.numbers()?, right.numbers()?);
    let mut numbers = vec![0.0; count(&shape)?];
    for batch in 0..count(&outer)? {
        for row in 0..rows {
            let target = &mut numbers[(batch * rows + row) * columns..][..columns];
            for place in 0..inner {
                let factor = left[(batch * rows + row) * inner + place];
                let line = &right[(batch * inner + place) * columns..][..columns];
                target.iter_mut().zip(line).for_each(|(target, &number)| *target += factor * number);
            }
        }
    }
    Some(Tensor::real(&shape, numbers))
}

fn softmax(data: &Tensor, along: i64) -> Option<Tensor> {
    if axis(along, data.rank())? + 1 != data.rank() {
        return None;
    }
    let width = *data.shape().last()?;
    let numbers = data.numbers().filter(|_| width > 0).map(|numbers| {
        let mut shares = Vec::with_capacity(numbers.len());
        for row in numbers.chunks(width) {
            let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let powers: Vec<f64> = row.iter().map(|&number| (number - most).exp()).collect();
            let sum: f64 = powers.iter().sum();
            shares.extend(powers.iter().map(|&power| power / sum));
        }
        shares
    });
    Some(Tensor::new(data.shape().to_vec(), numbers, false))
}

fn reduce(node: &NodeProto, data: &Tensor, inputs: &[Option<&Tensor>]) -> Option<Tensor> {
    let axes = match (attribute(node, "axes"), inputs.get(1).copied().flatten()) {
        (Some(given), _) => given.ints.clone(),
        (None, Some(axes)) => axes.integers()?,
        (None, None) => (0..data.rank() as i64).collect(),
    };
    // One axis is what masks and norms reduce.
    let [along] = axes.as_slice() else { return None };
    let along = axis(*along, data.rank())?;
    let (size, inner) = (data.shape()[along], count(&data.shape()[along + 1..])?);
    let mut shape = data.shape().to_vec();
    if int(node, "keepdims", 1) == 0 {
        shape.remove(along);
    } else {
        shape[along] = 1;
    }
    let numbers = data.numbers().filter(|_| size > 0).map(|numbers| {
        let groups = numbers.len() / size;
        let group = |group: usize| {
            let start = group / inner * inner * size + group % inner;
            let all = (0..size).map(move |place| numbers[start + place * inner]);
            match node.op_type() {
                "ReduceMax" => all.fold(f64::NEG_INFINITY, f64::max),
                "ReduceMin" => all.fold(f64::INFINITY, f64::min),
                "ReduceMean" => all.sum::<f64>() / size as f64,
                _ => all.sum(),
            }
        };
        (0..groups).map(group).collect()
    });
    Some(Tensor::new(shape, numbers, data.is_whole))
}
