//! Operators that make shapes and move numbers.

use super::tensor::{MOST_NUMBERS, Tensor, count};
use super::{attribute, axis, int};
use crate::proto::NodeProto;

pub(super) fn evaluate(node: &NodeProto, inputs: &[Option<&Tensor>]) -> Option<Tensor> {
    let input = |index: usize| inputs.get(index).copied().flatten();
    let integers = |index: usize| input(index)?.integers();
    match node.op_type() {
        "Range" => range(input(0)?, input(1)?, input(2)?),
        "ConstantOfShape" => filled(node, &integers(0)?),
        "Concat" => concat(node, inputs),
        "Expand" => expand(input(0)?, &integers(1)?),
        operator => {
            let data = input(0)?;
            // Older operator sets have them as attributes.
            let listed = |name: &str, index: usize| match attribute(node, name) {
                Some(given) => Some(given.ints.clone()),
                None => integers(index),
            };
            match operator {
                "Shape" => shape_of(node, data),
                "Reshape" => reshape(data, &integers(1)?, int(node, "allowzero", 0) != 0),
                "Flatten" => flatten(data, int(node, "axis", 1)),
                "Unsqueeze" => unsqueeze(data, &listed("axes", 1)?),
                "Squeeze" => squeeze(data, listed("axes", 1).as_deref()),
                "Transpose" => transpose(data, attribute(node, "perm").map(|given| given.ints.as_slice())),
                "Gather" => gather(data, input(1)?, int(node, "axis", 0)),
                "Slice" => {
                    let steps = match inputs.get(4) {
                        Some(Some(steps)) => Some(steps.integers()?),
                        _ => None,
                    };
                    let axes = match inputs.get(3) {
                        Some(Some(axes)) => Some(axes.integers()?),
                        _ => attribute(node, "axes").map(|given| given.ints.clone()),
                    };
                    slice(data, &listed("starts", 1)?, &listed("ends", 2)?, axes, steps)
                }
                "Trilu" => triangle(data, integers(1), int(node, "upper", 1) != 0),
                "CumSum" => cumulative(data, *integers(1)?.first()?),
                "Tile" => tile(data, &integers(1)?),
                _ => None,
            }
        }
    }
}

/// The shape of a value as numbers.
pub(super) fn shape_of(node: &NodeProto, value: &Tensor) -> Option<Tensor> {
    let rank = value.rank() as i64;
    let place = |place: i64| (if place < 0 { place + rank } else { place }).clamp(0, rank) as usize;
    let (start, end) = (place(int(node, "start", 0)), place(int(node, "end", rank)));
    let sizes: Vec<f64> = value.shape().get(start..end)?.iter().map(|&size| size as f64).collect();
    Some(Tensor::whole(&[sizes.len()], sizes))
}

fn range(start: &Tensor, end: &Tensor, step: &Tensor) -> Option<Tensor> {
    let single = |value: &Tensor| value.numbers()?.first().copied();
    let (start, end, by) = (single(start)?, single(end)?, single(step)?);
    let steps = ((end - start) / by).ceil().max(0.0);
    if !(0.0..=MOST_NUMBERS as f64).contains(&steps) {
        return None;
    }
    let numbers: Vec<f64> = (0..steps as usize).map(|place| start + place as f64 * by).collect();
    Some(Tensor::new(vec![numbers.len()], Some(numbers), step.is_whole))
}

fn filled(node: &NodeProto, shape: &[i64]) -> Option<Tensor> {
    let shape = sizes(shape)?;
    let held = attribute(node, "value").and_then(|given| given.t.as_deref());
    let value = match held {
        Some(tensor) => {
            crate::preflight::numbers::of_tensor(tensor, &crate::preflight::Files::none()).map(|numbers| {
                let is_whole = numbers.whole().is_some();
                (numbers.real().first().copied().unwrap_or_default(), is_whole)
            })
        }
        None => Some((0.0, false)),
    };
    let Some((value, is_whole)) = value else { return Some(Tensor::shaped(&shape)) };
    let numbers = count(&shape).filter(|&count| count <= MOST_NUMBERS).map(|count| vec![value; count]);
    Some(Tensor::new(shape, numbers, is_whole))
}

fn sizes(numbers: &[i64]) -> Option<Vec<usize>> {
    numbers.iter().map(|&size| usize::try_from(size).ok()).collect()
}

fn reshape(data: &Tensor, wanted: &[i64], zero_is_zero: bool) -> Option<Tensor> {
    let all = count(data.shape())?;
    let mut shape = Vec::new();
    let mut open = None;
    for (index, &size) in wanted.iter().enumerate() {
        match size {
            -1 if open.is_none() => {
                open = Some(index);
                shape.push(1);
            }
            0 if !zero_is_zero => shape.push(*data.shape().get(index)?),
            _ => shape.push(usize::try_from(size).ok()?),
        }
    }
    if let Some(index) = open {
        let rest = count(&shape)?;
        if rest == 0 || all % rest != 0 {
            return None;
        }
        shape[index] = all / rest;
    }
    data.reshaped(shape)
}

fn flatten(data: &Tensor, at: i64) -> Option<Tensor> {
    let rank = data.rank();
    let at = usize::try_from(if at < 0 { at + rank as i64 } else { at }).ok().filter(|&at| at <= rank)?;
    let (before, after) = data.shape().split_at(at);
    data.reshaped(vec![count(before)?, count(after)?])
}

fn unsqueeze(data: &Tensor, axes: &[i64]) -> Option<Tensor> {
    let rank = data.rank() + axes.len();
    let mut places = axes.iter().map(|&given| axis(given, rank)).collect::<Option<Vec<_>>>()?;
    places.sort_unstable();
    let mut shape = data.shape().to_vec();
    for place in places {
        if place > shape.len() {
            return None;
        }
        shape.insert(place, 1);
    }
    data.reshaped(shape)
}

fn squeeze(data: &Tensor, axes: Option<&[i64]>) -> Option<Tensor> {
    let places = match axes {
        Some(axes) => axes.iter().map(|&given| axis(given, data.rank())).collect::<Option<Vec<_>>>()?,
        None => (0..data.rank()).filter(|&axis| data.shape()[axis] == 1).collect(),
    };
    let kept = data.shape().iter().enumerate().filter(|(axis, _)| !places.contains(axis));
    data.reshaped(kept.map(|(_, &size)| size).collect())
}

fn transpose(data: &Tensor, order: Option<&[i64]>) -> Option<Tensor> {
    let order: Vec<usize> = match order {
        Some(order) => order.iter().map(|&given| axis(given, data.rank())).collect::<Option<_>>()?,
        None => (0..data.rank()).rev().collect(),
    };
    if order.len() != data.rank() {
        return None;
    }
    let steps = data.steps();
    let shape = order.iter().map(|&axis| data.shape()[axis]).collect();
    Some(data.view(shape, 0, &order.iter().map(|&axis| steps[axis]).collect::<Vec<_>>()))
}

fn expand(data: &Tensor, wanted: &[i64]) -> Option<Tensor> {
    data.broadcast(&super::tensor::common_shape(data.shape(), &sizes(wanted)?)?)
}

fn tile(data: &Tensor, repeats: &[i64]) -> Option<Tensor> {
    let repeats = sizes(repeats)?;
    if repeats.len() != data.rank() {
        return None;
    }
    // Each axis becomes two, the first of which repeats the second.
    let mut shape = Vec::new();
    let mut steps = Vec::new();
    for ((&size, step), &times) in data.shape().iter().zip(data.steps()).zip(&repeats) {
        shape.extend([times, size]);
        steps.extend([0, step]);
    }
    let sizes = data.shape().iter().zip(&repeats);
    let whole = sizes.map(|(&size, &times)| size.checked_mul(times)).collect::<Option<_>>()?;
    data.view(shape, 0, &steps).reshaped(whole)
}

fn gather(data: &Tensor, places: &Tensor, along: i64) -> Option<Tensor> {
    let along = axis(along, data.rank())?;
    let (before, after) = (&data.shape()[..along], &data.shape()[along + 1..]);
    let shape = [before, places.shape(), after].concat();
    let size = data.shape()[along];
    let numbers = match (data.numbers(), places.integers()) {
        (Some(numbers), Some(places)) => {
            let inner = count(after)?;
            let mut taken = Vec::new();
            for outer in 0..count(before)? {
                for &place in &places {
                    let place = if place < 0 { place + size as i64 } else { place };
                    let place = usize::try_from(place).ok().filter(|&place| place < size)?;
                    let start = (outer * size + place) * inner;
                    taken.extend_from_slice(numbers.get(start..start + inner)?);
                    if taken.len() > MOST_NUMBERS {
                        return Some(Tensor::new(shape, None, data.is_whole));
                    }
                }
            }
            Some(taken)
        }
        _ => None,
    };
    Some(Tensor::new(shape, numbers, data.is_whole))
}

fn slice(
    data: &Tensor,
    starts: &[i64],
    ends: &[i64],
    axes: Option<Vec<i64>>,
    steps: Option<Vec<i64>>,
) -> Option<Tensor> {
    let mut shape = data.shape().to_vec();
    let mut apart = data.steps();
    let mut offset = 0_isize;
    for (index, (&start, &end)) in starts.iter().zip(ends).enumerate() {
        let along = match &axes {
            Some(axes) => axis(*axes.get(index)?, data.rank())?,
            None => axis(index as i64, data.rank())?,
        };
        let by = steps.as_ref().map_or(Some(1), |steps| steps.get(index).copied())?;
        // Ends are often the largest number that there is.
        let (size, by) = (data.shape()[along] as i128, i128::from(by));
        let place = |place: i64| i128::from(place) + if place < 0 { size } else { 0 };
        let (start, length) = match by {
            1.. => {
                let start = place(start).clamp(0, size);
                (start, (place(end).clamp(0, size) - start + by - 1).max(0) / by)
            }
            ..0 => {
                let start = place(start).clamp(-1, size - 1);
                (start, (start - place(end).clamp(-1, size - 1) - by - 1).max(0) / -by)
            }
            0 => return None,
        };
        // A step beyond the end is taken once at most.
        let by = by.clamp(-size.max(1), size.max(1));
        offset = offset.wrapping_add((start as isize).wrapping_mul(apart[along]));
        apart[along] = apart[along].wrapping_mul(by as isize);
        shape[along] = length as usize;
    }
    Some(data.view(shape, usize::try_from(offset).unwrap_or_default(), &apart))
}

pub(super) fn split(node: &NodeProto, inputs: &[Option<&Tensor>]) -> Option<Vec<Tensor>> {
    let data = inputs.first().copied().flatten()?;
    let along = axis(int(node, "axis", 0), data.rank())?;
    let size = data.shape()[along];
    let parts = node.output.len();
    let lengths = match (inputs.get(1).copied().flatten(), attribute(node, "split")) {
        (Some(lengths), _) => sizes(&lengths.integers()?)?,
        (None, Some(given)) => sizes(&given.ints)?,
        (None, None) if parts > 0 && size.is_multiple_of(parts) => vec![size / parts; parts],
        (None, None) => return None,
    };
    if lengths.len() != parts
        || lengths.iter().try_fold(0_usize, |sum, &length| sum.checked_add(length)) != Some(size)
    {
        return None;
    }
    let steps = data.steps();
    let mut start = 0_usize;
    let part = |&length: &usize| {
        let mut shape = data.shape().to_vec();
        shape[along] = length;
        let part = data.view(shape, start.wrapping_mul(steps[along] as usize), &steps);
        start += length;
        part
    };
    Some(lengths.iter().map(part).collect())
}

fn concat(node: &NodeProto, inputs: &[Option<&Tensor>]) -> Option<Tensor> {
    let parts = inputs.iter().copied().collect::<Option<Vec<_>>>()?;
    let first = parts.first()?;
    let along = axis(int(node, "axis", 0), first.rank())?;
    let mut shape = first.shape().to_vec();
    shape[along] = 0;
    for part in &parts {
        let fits =
            part.rank() == shape.len() && (0..shape.len()).all(|a| a == along || part.shape()[a] == shape[a]);
        if !fits {
            return None;
        }
        shape[along] = shape[along].checked_add(part.shape()[along])?;
    }
    let numbers = parts.iter().map(|part| part.numbers()).collect::<Option<Vec<_>>>().and_then(|lists| {
        let mut joined = Vec::new();
        for outer in 0..count(&shape[..along])? {
            for (part, numbers) in parts.iter().zip(&lists) {
                let length = count(&part.shape()[along..])?;
                joined.extend_from_slice(numbers.get(outer * length..(outer + 1) * length)?);
            }
        }
        Some(joined)
    });
    Some(Tensor::new(shape, numbers, parts.iter().all(|part| part.is_whole)))
}

fn triangle(data: &Tensor, diagonal: Option<Vec<i64>>, is_upper: bool) -> Option<Tensor> {
    let diagonal = diagonal.and_then(|list| list.first().copied()).unwrap_or(0);
    let [.., rows, columns] = *data.shape() else { return None };
    let numbers = data.numbers().map(|numbers| {
        let keep = |index: usize| {
            let (row, column) = ((index / columns % rows) as i64, (index % columns) as i64);
            if is_upper { column - row >= diagonal } else { column - row <= diagonal }
        };
        numbers.iter().enumerate().map(|(index, &number)| if keep(index) { number } else { 0.0 }).collect()
    });
    Some(Tensor::new(data.shape().to_vec(), numbers, data.is_whole))
}

fn cumulative(data: &Tensor, along: i64) -> Option<Tensor> {
    let step = *data.steps().get(axis(along, data.rank())?)? as usize;
    let size = data.shape()[axis(along, data.rank())?];
    let numbers = data.numbers().map(|numbers| {
        let mut sums = numbers.to_vec();
        for index in 0..sums.len() {
            if !(index / step).is_multiple_of(size) {
                sums[index] += sums[index - step];
            }
        }
        sums
    });
    Some(Tensor::new(data.shape().to_vec(), numbers, data.is_whole))
}
