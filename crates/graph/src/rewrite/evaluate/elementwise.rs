//! Operators on each number, and on pairs of them.

use super::int;
use super::tensor::{Tensor, common_shape};
use crate::proto::{NodeProto, data_type};

pub(super) fn evaluate(node: &NodeProto, inputs: &[Option<&Tensor>]) -> Option<Tensor> {
    let operator = node.op_type();
    let first = inputs.first().copied().flatten()?;
    if let Some((is_whole, change)) = unary(operator) {
        return Some(first.map(is_whole.unwrap_or(first.is_whole), change));
    }
    match operator {
        "Cast" => Some(cast(first, int(node, "to", 0))),
        "Where" => choose(first, inputs.get(1).copied().flatten()?, inputs.get(2).copied().flatten()?),
        _ => {
            let second = inputs.get(1).copied().flatten()?;
            if inputs.len() != 2 {
                return None;
            }
            let (is_truth, combine) = binary(operator, first.is_whole && second.is_whole)?;
            pairs(first, second, is_truth || (first.is_whole && second.is_whole), combine)
        }
    }
}

type Unary = fn(f64) -> f64;
type Binary = fn(f64, f64) -> f64;

fn truth(value: bool) -> f64 {
    f64::from(u8::from(value))
}

/// The operator and the kind of its results, where that is not the kind of its inputs.
fn unary(operator: &str) -> Option<(Option<bool>, Unary)> {
    Some(match operator {
        "Identity" | "Dropout" => (None, |number| number),
        "Neg" => (None, |number| -number),
        "Abs" => (None, f64::abs),
        "Cos" => (None, f64::cos),
        "Sin" => (None, f64::sin),
        "Sqrt" => (None, f64::sqrt),
        "Exp" => (None, f64::exp),
        "Log" => (None, f64::ln),
        "Tanh" => (None, f64::tanh),
        "Floor" => (None, f64::floor),
        "Ceil" => (None, f64::ceil),
        "Reciprocal" => (None, f64::recip),
        "Sigmoid" => (None, |number| (1.0 + (-number).exp()).recip()),
        "Not" => (Some(true), |number| truth(number == 0.0)),
        "IsNaN" => (Some(true), |number| truth(number.is_nan())),
        "IsInf" => (Some(true), |number| truth(number.is_infinite())),
        _ => return None,
    })
}

/// The operator, and whether it tells truth.
fn binary(operator: &str, are_whole: bool) -> Option<(bool, Binary)> {
    Some(match operator {
        "Add" => (false, |left, right| left + right),
        "Sub" => (false, |left, right| left - right),
        "Mul" => (false, |left, right| left * right),
        "Div" if are_whole => (false, |left, right| (left / right).trunc()),
        "Div" => (false, |left, right| left / right),
        "Mod" if are_whole => (false, |left, right| left - right * (left / right).floor()),
        "Pow" => (false, f64::powf),
        "Max" => (false, f64::max),
        "Min" => (false, f64::min),
        "Equal" => (true, |left, right| truth(left == right)),
        "Less" => (true, |left, right| truth(left < right)),
        "LessOrEqual" => (true, |left, right| truth(left <= right)),
        "Greater" => (true, |left, right| truth(left > right)),
        "GreaterOrEqual" => (true, |left, right| truth(left >= right)),
        "And" => (true, |left, right| truth(left != 0.0 && right != 0.0)),
        "Or" => (true, |left, right| truth(left != 0.0 || right != 0.0)),
        "Xor" => (true, |left, right| truth((left != 0.0) != (right != 0.0))),
        _ => return None,
    })
}

fn cast(value: &Tensor, to: i64) -> Tensor {
    match i32::try_from(to).unwrap_or_default() {
        data_type::FLOAT | data_type::DOUBLE | data_type::FLOAT16 | data_type::BFLOAT16 => {
            value.map(false, |number| number)
        }
        data_type::BOOL => value.map(true, |number| truth(number != 0.0)),
        _ => value.map(true, f64::trunc),
    }
}

fn pairs(left: &Tensor, right: &Tensor, is_whole: bool, combine: Binary) -> Option<Tensor> {
    let shape = common_shape(left.shape(), right.shape())?;
    if left.numbers().is_none() || right.numbers().is_none() {
        return Some(Tensor::new(shape, None, is_whole));
    }
    let (left, right) = (left.broadcast(&shape)?, right.broadcast(&shape)?);
    let numbers = left
        .numbers()
        .zip(right.numbers())
        .map(|(left, right)| left.iter().zip(right).map(|(&left, &right)| combine(left, right)).collect());
    Some(Tensor::new(shape, numbers, is_whole))
}

fn choose(condition: &Tensor, left: &Tensor, right: &Tensor) -> Option<Tensor> {
    let shape = common_shape(&common_shape(condition.shape(), left.shape())?, right.shape())?;
    let is_whole = left.is_whole && right.is_whole;
    let all = [condition, left, right];
    if all.iter().any(|tensor| tensor.numbers().is_none()) {
        return Some(Tensor::new(shape, None, is_whole));
    }
    let [condition, left, right] = all.map(|tensor| tensor.broadcast(&shape));
    let (condition, left, right) = (condition?, left?, right?);
    let sides = left.numbers()?.iter().zip(right.numbers()?);
    let numbers = condition.numbers()?.iter().zip(sides);
    let chosen = numbers.map(|(&condition, (&left, &right))| if condition != 0.0 { left } else { right });
    Some(Tensor::new(shape, Some(chosen.collect()), is_whole))
}
