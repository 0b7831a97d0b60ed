//! Small lists of numbers that are known before a graph runs: shapes, axes, counts, and what follows from
//! them.

use super::files::Files;
use super::tensors::{element_bits, elements, external};
use crate::proto::{TensorProto, data_type};

/// Longer lists are no shapes.
pub(super) const MOST_NUMBERS: u64 = 256;

/// Known numbers, in the order of their elements.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Numbers {
    Whole(Vec<i64>),
    Real(Vec<f64>),
}

impl Numbers {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Whole(list) => list.len(),
            Self::Real(list) => list.len(),
        }
    }

    pub(crate) fn whole(&self) -> Option<&[i64]> {
        match self {
            Self::Whole(list) => Some(list),
            Self::Real(_) => None,
        }
    }

    pub(crate) fn real(&self) -> Vec<f64> {
        match self {
            Self::Whole(list) => list.iter().map(|&number| number as f64).collect(),
            Self::Real(list) => list.clone(),
        }
    }

    /// The only number.
    pub(super) fn single(&self) -> Option<f64> {
        match self.real().as_slice() {
            [number] => Some(*number),
            _ => None,
        }
    }

    /// The same number `count` times; `None` for too many.
    pub(super) fn repeat(&self, count: u64) -> Option<Self> {
        let count = usize::try_from(count).ok().filter(|&count| count as u64 <= MOST_NUMBERS)?;
        match self {
            Self::Whole(list) => Some(Self::Whole(vec![*list.first()?; count])),
            Self::Real(list) => Some(Self::Real(vec![*list.first()?; count])),
        }
    }

    /// The numbers at `places`, counted from the end where negative; `None` for too many.
    pub(super) fn pick(&self, places: &[i64]) -> Option<Self> {
        if places.len() as u64 > MOST_NUMBERS {
            return None;
        }
        let len = self.len() as i64;
        let place = |&place: &i64| usize::try_from(if place < 0 { place + len } else { place }).ok();
        match self {
            Self::Whole(list) => {
                places.iter().map(|at| list.get(place(at)?).copied()).collect::<Option<_>>().map(Self::Whole)
            }
            Self::Real(list) => {
                places.iter().map(|at| list.get(place(at)?).copied()).collect::<Option<_>>().map(Self::Real)
            }
        }
    }

    /// One list after the other.
    pub(super) fn join<'n>(lists: impl Iterator<Item = &'n Numbers>) -> Option<Self> {
        let (mut joined, mut reals) = (Vec::new(), Vec::new());
        for list in lists {
            match list {
                Self::Whole(list) => joined.extend_from_slice(list),
                Self::Real(list) => reals.extend_from_slice(list),
            }
            if (joined.len() + reals.len()) as u64 > MOST_NUMBERS {
                return None;
            }
        }
        match (joined.is_empty(), reals.is_empty()) {
            (_, true) => Some(Self::Whole(joined)),
            (true, false) => Some(Self::Real(reals)),
            (false, false) => None,
        }
    }

    /// The numbers as elements of a type hold them: wrapped around or rounded. `None` where this engine
    /// does not know how the type rounds.
    pub(super) fn held_as(self, element: i32) -> Option<Self> {
        let whole =
            |list: Vec<i64>, hold: fn(i64) -> i64| Some(Self::Whole(list.into_iter().map(hold).collect()));
        let list = match self {
            Self::Real(list) => {
                return match element {
                    data_type::DOUBLE => Some(Self::Real(list)),
                    data_type::FLOAT => {
                        Some(Self::Real(list.into_iter().map(|number| f64::from(number as f32)).collect()))
                    }
                    _ => None,
                };
            }
            Self::Whole(list) => list,
        };
        match element {
            data_type::INT64 => Some(Self::Whole(list)),
            data_type::INT32 => whole(list, |number| i64::from(number as i32)),
            data_type::INT16 => whole(list, |number| i64::from(number as i16)),
            data_type::INT8 => whole(list, |number| i64::from(number as i8)),
            data_type::UINT32 => whole(list, |number| i64::from(number as u32)),
            data_type::UINT16 => whole(list, |number| i64::from(number as u16)),
            data_type::UINT8 => whole(list, |number| i64::from(number as u8)),
            data_type::BOOL => whole(list, |number| i64::from(number != 0)),
            // As signed numbers those above 2^63 would change places with the small ones.
            data_type::UINT64 if list.iter().all(|&number| number >= 0) => Some(Self::Whole(list)),
            _ => None,
        }
    }

    /// The numbers turned into another type.
    pub(super) fn cast(self, element: i32) -> Option<Self> {
        let is_real = matches!(element, data_type::FLOAT | data_type::DOUBLE);
        match (self, is_real) {
            (Self::Whole(list), true) => {
                Self::Real(list.into_iter().map(|number| number as f64).collect()).held_as(element)
            }
            // What lies outside the type becomes anything, depending on the processor.
            (Self::Real(list), false) if list.iter().all(|number| number.abs() < 2_f64.powi(31)) => {
                let whole = |number: f64| {
                    if element == data_type::BOOL { i64::from(number != 0.0) } else { number as i64 }
                };
                Self::Whole(list.into_iter().map(whole).collect()).held_as(element)
            }
            (Self::Real(_), false) => None,
            (numbers, _) => numbers.held_as(element),
        }
    }

    /// `operator` on each pair of numbers, one list repeated where it has one.
    pub(super) fn combine(&self, other: &Self, operator: &str) -> Option<Self> {
        let len = match (self.len(), other.len()) {
            (left, right) if left == right || right == 1 => left,
            (1, right) => right,
            _ => return None,
        };
        let (left, right) = (self.repeat_single(len)?, other.repeat_single(len)?);
        match (left, right) {
            (Self::Whole(left), Self::Whole(right)) => {
                let pairs = left.into_iter().zip(right);
                pairs
                    .map(|(left, right)| whole_pair(operator, left, right))
                    .collect::<Option<_>>()
                    .map(Self::Whole)
            }
            (left, right) => {
                let (left, right) = (left.real(), right.real());
                let truth = comparison(operator);
                let pairs = left.into_iter().zip(right);
                if let Some(truth) = truth {
                    return Some(Self::Whole(
                        pairs.map(|(left, right)| i64::from(truth(left.partial_cmp(&right)))).collect(),
                    ));
                }
                pairs
                    .map(|(left, right)| real_pair(operator, left, right))
                    .collect::<Option<_>>()
                    .map(Self::Real)
            }
        }
    }

    fn repeat_single(&self, len: usize) -> Option<Self> {
        if self.len() == 1 { self.repeat(len as u64) } else { Some(self.clone()) }
    }

    /// `operator` on each number.
    pub(super) fn apply(&self, operator: &str) -> Option<Self> {
        match self {
            Self::Whole(list) => {
                let one = |&number: &i64| match operator {
                    "Neg" => Some(number.wrapping_neg()),
                    "Abs" => Some(number.wrapping_abs()),
                    "Sign" => Some(number.signum()),
                    "Not" => Some(i64::from(number == 0)),
                    _ => None,
                };
                list.iter().map(one).collect::<Option<_>>().map(Self::Whole)
            }
            Self::Real(list) => {
                let one = |&number: &f64| match operator {
                    "Neg" => Some(-number),
                    "Abs" => Some(number.abs()),
                    "Floor" => Some(number.floor()),
                    "Ceil" => Some(number.ceil()),
                    "Round" => Some(number.round_ties_even()),
                    "Sqrt" => Some(number.sqrt()),
                    "Reciprocal" => Some(number.recip()),
                    "Exp" => Some(number.exp()),
                    "Log" => Some(number.ln()),
                    _ => None,
                };
                list.iter().map(one).collect::<Option<_>>().map(Self::Real)
            }
        }
    }

    /// All numbers as one.
    pub(super) fn reduce(&self, operator: &str) -> Option<Self> {
        let pair = match operator {
            "ReduceSum" => "Add",
            "ReduceProd" => "Mul",
            "ReduceMax" => "Max",
            "ReduceMin" => "Min",
            _ => return None,
        };
        if self.len() as u64 > MOST_NUMBERS {
            return None;
        }
        let mut singles = (0..self.len() as i64).map(|place| self.pick(&[place]));
        let first = singles.next()??;
        singles.try_fold(first, |sum, next| sum.combine(&next?, pair))
    }
}

fn comparison(operator: &str) -> Option<fn(Option<std::cmp::Ordering>) -> bool> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    Some(match operator {
        "Equal" => |order| order == Some(Equal),
        "Greater" => |order| order == Some(Greater),
        "Less" => |order| order == Some(Less),
        "GreaterOrEqual" => |order| matches!(order, Some(Greater | Equal)),
        "LessOrEqual" => |order| matches!(order, Some(Less | Equal)),
        _ => return None,
    })
}

fn whole_pair(operator: &str, left: i64, right: i64) -> Option<i64> {
    if let Some(truth) = comparison(operator) {
        return Some(i64::from(truth(Some(left.cmp(&right)))));
    }
    Some(match operator {
        "Add" => left.wrapping_add(right),
        "Sub" => left.wrapping_sub(right),
        "Mul" => left.wrapping_mul(right),
        "Div" => left.checked_div(right)?,
        "Mod" if right > 0 => left.rem_euclid(right),
        "Pow" => {
            let power = |exponent| left.checked_pow(exponent);
            u32::try_from(right).ok().and_then(power)?
        }
        "Max" => left.max(right),
        "Min" => left.min(right),
        "And" => i64::from(left != 0 && right != 0),
        "Or" => i64::from(left != 0 || right != 0),
        "Xor" => i64::from((left != 0) != (right != 0)),
        _ => return None,
    })
}

fn real_pair(operator: &str, left: f64, right: f64) -> Option<f64> {
    Some(match operator {
        "Add" => left + right,
        "Sub" => left - right,
        "Mul" => left * right,
        "Div" => left / right,
        "Pow" => left.powf(right),
        "Max" => left.max(right),
        "Min" => left.min(right),
        _ => return None,
    })
}

/// The numbers of a small tensor, wherever its weights lie.
pub(crate) fn of_tensor(tensor: &TensorProto, files: &Files) -> Option<Numbers> {
    let count = elements(&tensor.dims).ok()?.filter(|&count| count <= MOST_NUMBERS)?;
    let element = tensor.data_type();
    let is_real = matches!(element, data_type::FLOAT | data_type::DOUBLE);
    let raw = match external(tensor).ok()? {
        Some(external) => {
            let bytes = count.checked_mul(element_bits(element)?)? / 8;
            Some(files.read(external.file, external.offset, usize::try_from(bytes).ok()?)?)
        }
        None => tensor.raw_data.clone(),
    };
    let numbers = match raw {
        Some(raw) => of_bytes(&raw, element)?,
        None if element == data_type::INT64 => Numbers::Whole(tensor.int64_data.clone()),
        None if element == data_type::FLOAT => {
            Numbers::Real(tensor.float_data.iter().map(|&number| f64::from(number)).collect())
        }
        None if element == data_type::DOUBLE => Numbers::Real(tensor.double_data.clone()),
        None if matches!(element, data_type::UINT32 | data_type::UINT64) => {
            Numbers::Whole(tensor.uint64_data.iter().map(|&number| number as i64).collect())
        }
        None => Numbers::Whole(tensor.int32_data.iter().map(|&number| i64::from(number)).collect()),
    };
    let numbers = if is_real { numbers } else { numbers.held_as(element)? };
    (numbers.len() as u64 == count).then_some(numbers)
}

fn of_bytes(bytes: &[u8], element: i32) -> Option<Numbers> {
    fn each<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> i64) -> Option<Numbers> {
        Some(Numbers::Whole(bytes.as_chunks::<N>().0.iter().map(|chunk| number(*chunk)).collect()))
    }
    match element {
        data_type::INT64 | data_type::UINT64 => each(bytes, i64::from_le_bytes),
        data_type::INT32 => each(bytes, |bytes| i64::from(i32::from_le_bytes(bytes))),
        data_type::UINT32 => each(bytes, |bytes| i64::from(u32::from_le_bytes(bytes))),
        data_type::INT16 => each(bytes, |bytes| i64::from(i16::from_le_bytes(bytes))),
        data_type::UINT16 => each(bytes, |bytes| i64::from(u16::from_le_bytes(bytes))),
        data_type::INT8 => each(bytes, |bytes| i64::from(i8::from_le_bytes(bytes))),
        data_type::UINT8 | data_type::BOOL => each(bytes, |bytes| i64::from(u8::from_le_bytes(bytes))),
        data_type::FLOAT => {
            let chunks = bytes.as_chunks().0;
            Some(Numbers::Real(chunks.iter().map(|chunk| f64::from(f32::from_le_bytes(*chunk))).collect()))
        }
        data_type::DOUBLE => {
            Some(Numbers::Real(bytes.as_chunks().0.iter().map(|chunk| f64::from_le_bytes(*chunk)).collect()))
        }
        _ => None,
    }
}
