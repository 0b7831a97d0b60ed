//! Which elements operators take, and in which order: the part of shapes that moves small lists of numbers.

use super::numbers::{MOST_NUMBERS, Numbers};
use super::value::Value;
use super::values::attribute;
use crate::proto::NodeProto;

/// The parts of a value that a list of places asks for.
pub(super) fn gather(node: &NodeProto, inputs: &[Option<&Value>], is_constant: bool) -> Value {
    let input = |index: usize| inputs.get(index).copied().flatten();
    let (data, places) = (input(0), input(1));
    let element = data.map_or(0, |value| value.element);
    let axis = attribute(node, "axis").and_then(|axis| axis.i).unwrap_or(0);
    let shape = data.and_then(|data| {
        let data = data.shape.as_ref()?;
        let places = places?.shape.as_ref()?;
        let axis = usize::try_from(if axis < 0 { axis + data.len() as i64 } else { axis }).ok()?;
        let (before, after) = (data.get(..axis)?, data.get(axis + 1..)?);
        Some([before, places, after].concat())
    });
    let numbers = data.and_then(|data| {
        let ((dimensions, known), wanted) = (data.grid()?, places?.numbers.as_ref()?.whole()?);
        let axis = usize::try_from(if axis < 0 { axis + dimensions.len() as i64 } else { axis }).ok()?;
        let size = i64::try_from(*dimensions.get(axis)?).ok()?;
        let wanted = wanted.iter().map(|&place| if place < 0 { place + size } else { place }).collect();
        let mut lists = every_place(&dimensions);
        *lists.get_mut(axis)? = wanted;
        known.pick(&flat(&dimensions, &lists)?)
    });
    Value { is_constant, element, shape, numbers, ..Value::default() }
}

/// The numbers of a transposed value.
pub(super) fn turned(value: &Value, order: Option<&[i64]>) -> Option<Numbers> {
    let (dimensions, numbers) = value.grid()?;
    let rank = dimensions.len();
    let order: Vec<usize> = match order {
        Some(order) => order.iter().map(|&axis| usize::try_from(axis).ok()).collect::<Option<_>>()?,
        None => (0..rank).rev().collect(),
    };
    // Where each step along an axis leads in the flat list.
    let strides: Vec<u64> = (0..rank).map(|axis| dimensions[axis + 1..].iter().product()).collect();
    let mut places = vec![0_i64];
    for axis in order {
        let (size, stride) = (*dimensions.get(axis)?, strides[axis]);
        // An axis that is named twice makes no order.
        if places.len() as u64 * size > numbers.len() as u64 {
            return None;
        }
        let next = places.iter().flat_map(|&place| (0..size).map(move |step| place + (step * stride) as i64));
        places = next.collect();
    }
    numbers.pick(&places)
}

/// Every place along every axis.
fn every_place(dimensions: &[u64]) -> Vec<Vec<i64>> {
    dimensions.iter().map(|&size| (0..size as i64).collect()).collect()
}

/// The places in the flat list that the places along the axes lead to, in their order.
fn flat(dimensions: &[u64], lists: &[Vec<i64>]) -> Option<Vec<i64>> {
    let mut flat = vec![0_i64];
    for (&size, list) in dimensions.iter().zip(lists) {
        let is_inside = list.iter().all(|place| (0..size as i64).contains(place));
        if !is_inside || flat.len().saturating_mul(list.len()) as u64 > MOST_NUMBERS {
            return None;
        }
        let next = flat.iter().flat_map(|place| list.iter().map(move |step| place * size as i64 + step));
        flat = next.collect();
    }
    Some(flat)
}

/// A part of a value along some of its axes.
pub(super) fn slice(node: &NodeProto, inputs: &[Option<&Value>], is_constant: bool) -> Value {
    let Some(Some(value)) = inputs.first() else { return Value { is_constant, ..Value::default() } };
    let unknown = Value { is_constant, element: value.element, ..Value::default() };
    let part = || {
        let given = |index: usize, name: &str| match inputs.get(index).copied().flatten() {
            Some(value) => Some(value.numbers.as_ref()?.whole()?.to_vec()),
            None => Some(attribute(node, name).map(|given| given.ints.clone()).unwrap_or_default()),
        };
        let shape = value.shape.as_ref()?;
        let (starts, ends) = (given(1, "starts")?, given(2, "ends")?);
        let (axes, steps) = (given(3, "axes")?, given(4, "steps")?);
        let mut part = shape.clone();
        let mut lists = value.grid().map(|(sizes, _)| every_place(&sizes));
        for (index, (&start, &end)) in starts.iter().zip(&ends).enumerate() {
            let axis = axes.get(index).copied().unwrap_or(index as i64);
            let axis = usize::try_from(if axis < 0 { axis + shape.len() as i64 } else { axis }).ok()?;
            let places =
                shape.get(axis)?.map(|size| along(size, start, end, steps.get(index).copied().unwrap_or(1)));
            let (count, list) = match places {
                Some(places) => places.map(|(count, list)| (Some(count), list))?,
                None => (None, None),
            };
            part[axis] = count;
            match (&mut lists, list) {
                (Some(lists), Some(list)) => lists[axis] = list,
                (lists, _) => *lists = None,
            }
        }
        let numbers = lists.and_then(|lists| {
            let (sizes, numbers) = value.grid()?;
            numbers.pick(&flat(&sizes, &lists)?)
        });
        Some(Value { shape: Some(part), numbers, ..unknown.clone() })
    };
    part().unwrap_or(unknown)
}

/// A value cut along an axis, one part for each output; without sizes they are equal but for the last.
pub(super) fn split(node: &NodeProto, inputs: &[Option<&Value>], is_constant: bool) -> Vec<Value> {
    let input = |index: usize| inputs.get(index).copied().flatten();
    let (Some(value), count) = (input(0), node.output.len()) else { return Vec::new() };
    let parts = || {
        if count as u64 > MOST_NUMBERS {
            return None;
        }
        let shape = value.shape.as_ref()?;
        let axis = attribute(node, "axis").and_then(|axis| axis.i).unwrap_or(0);
        let axis = usize::try_from(if axis < 0 { axis + shape.len() as i64 } else { axis }).ok()?;
        let size = (*shape.get(axis)?)?;
        let sizes: Vec<u64> = match (attribute(node, "split"), input(1)) {
            (Some(given), _) => {
                given.ints.iter().map(|&part| u64::try_from(part).ok()).collect::<Option<_>>()?
            }
            (None, Some(given)) => given
                .numbers
                .as_ref()?
                .whole()?
                .iter()
                .map(|&part| u64::try_from(part).ok())
                .collect::<Option<_>>()?,
            (None, None) => {
                let each = size.div_ceil(count.max(1) as u64);
                (0..count as u64).map(|part| size.saturating_sub(part * each).min(each)).collect()
            }
        };
        let sum = sizes.iter().try_fold(0_u64, |sum, &part| sum.checked_add(part));
        if sizes.len() != count || sum != Some(size) {
            return None;
        }
        let mut start = 0;
        let part = sizes.into_iter().map(|part| {
            let mut shape = shape.clone();
            shape[axis] = Some(part);
            let places: Vec<i64> =
                (start as i64..(start + part) as i64).take(MOST_NUMBERS as usize + 1).collect();
            start += part;
            let is_list = shape.len() == 1;
            let numbers =
                value.numbers.as_ref().filter(|_| is_list).and_then(|numbers| numbers.pick(&places));
            Value { is_constant, element: value.element, shape: Some(shape), numbers, ..Value::default() }
        });
        Some(part.collect())
    };
    let unknown = || Value { is_constant, element: value.element, ..Value::default() };
    parts().unwrap_or_else(|| vec![unknown(); count])
}

/// How many places a slice takes along an axis, and which, where they are few.
fn along(size: u64, start: i64, end: i64, step: i64) -> Option<(u64, Option<Vec<i64>>)> {
    let size = i64::try_from(size).ok()?;
    let from_end = |at: i64| if at < 0 { at.saturating_add(size) } else { at };
    let (first, last) = if step > 0 {
        (from_end(start).clamp(0, size), from_end(end).clamp(0, size))
    } else {
        (from_end(start).clamp(-1, size - 1), from_end(end).clamp(-1, size - 1))
    };
    let distance = if step > 0 { last - first } else { first - last };
    let count = u64::try_from(distance).unwrap_or(0).div_ceil(step.unsigned_abs().max(1));
    let places = (count <= 256).then(|| (0..count as i64).map(|index| first + index * step).collect());
    (step != 0).then_some((count, places))
}
