//! The shapes that operators make of the shapes and numbers that they are given.

use super::files::Files;
use super::kinds::{KEEP_SHAPE, PAIRWISE, UNFOLLOWED};
use super::numbers::{MOST_NUMBERS, Numbers};
use super::places::{gather, slice, split, turned};
use super::value::Value;
use super::values::{MOST_DIMENSIONS, attribute, of_tensor};
use crate::proto::{NodeProto, data_type};

type Shape = Vec<Option<u64>>;

/// The size of the output follows from constants in a way that is not known here.
pub(super) struct Unfollowable;

/// Whether a runtime computes the node while it loads.
pub(super) fn is_constant(node: &NodeProto, inputs: &[Option<&Value>]) -> bool {
    match node.op_type() {
        "Constant" => true,
        "RandomNormal" | "RandomUniform" => true,
        "RandomNormalLike" | "RandomUniformLike" | "Bernoulli" | "Multinomial" => false,
        // Kept, so that a product can take its weights as they are.
        "DequantizeLinear" => false,
        // Of a value that comes at run time the shape may be known all the same.
        "Shape" | "Size" => {
            let is_given = inputs.first().copied().flatten().is_some_and(|value| value.is_constant);
            is_given || numbers_of_shape(node, inputs).is_some()
        }
        _ => !inputs.is_empty() && inputs.iter().flatten().all(|input| input.is_constant),
    }
}

/// Whether the node makes nothing that was not there.
pub(super) fn is_free(node: &NodeProto) -> bool {
    matches!(node.op_type(), "Constant" | "Identity" | "Shape" | "Size")
}

/// What is known of the outputs. Those behind the list are unknown.
pub(super) fn infer(node: &NodeProto, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Unfollowable> {
    let is_constant = is_constant(node, inputs);
    let input = |index: usize| inputs.get(index).copied().flatten();
    let first = input(0);
    let element = first.map_or(0, |value| value.element);
    let made = |shape: Option<Shape>, element: i32| Value { is_constant, element, shape, ..Value::default() };
    if let Some(value) = sized(node, inputs, is_constant)? {
        return Ok(vec![value]);
    }
    let value = match node.op_type() {
        "Constant" => constant(node),
        "Shape" | "Size" => measured(node, inputs, is_constant),
        "Split" => return Ok(split(node, inputs, is_constant)),
        "Identity" => first.cloned().unwrap_or_default(),
        "Concat" => concat(node, inputs, is_constant),
        "Gather" => gather(node, inputs, is_constant),
        "GatherElements" => made(input(1).and_then(|value| value.shape.clone()), element),
        "GatherND" => made(gather_nd(inputs), element),
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Transpose" => {
            rearranged(node, inputs, is_constant)
        }
        "Cast" => {
            let to = attribute(node, "to").and_then(|to| to.i).map_or(0, |to| to as i32);
            let numbers = first.and_then(|value| value.numbers.clone()?.cast(to));
            Value { numbers, ..made(first.and_then(|value| value.shape.clone()), to) }
        }
        "MatMul" => made(matmul(input(0), input(1)), element),
        "MatMulInteger" => made(matmul(input(0), input(1)), data_type::INT32),
        "Gemm" => made(gemm(node, input(0), input(1)), element),
        "Slice" => slice(node, inputs, is_constant),
        "Where" => choose(inputs, is_constant),
        operator if operator.starts_with("Reduce") => reduced(node, inputs, is_constant),
        "ArgMax" | "ArgMin" => made(reduced(node, inputs, is_constant).shape, data_type::INT64),
        operator if PAIRWISE.contains(&operator) => pairwise(operator, inputs, is_constant),
        operator if KEEP_SHAPE.contains(&operator) => {
            let element = match operator {
                "DequantizeLinear" => data_type::FLOAT,
                "CastLike" => input(1).map_or(0, |value| value.element),
                "EyeLike" => attribute(node, "dtype").and_then(|to| to.i).map_or(element, |to| to as i32),
                _ => element,
            };
            let numbers = first.and_then(|value| value.numbers.as_ref()?.apply(operator)?.held_as(element));
            Value { numbers, ..made(first.and_then(|value| value.shape.clone()), element) }
        }
        // Parts of what they are given, whose number depends on it.
        "Compress" | "DepthToSpace" | "SpaceToDepth" | "TopK" | "Unique" => made(None, element),
        _ => return Ok(Vec::new()),
    };
    Ok(vec![value])
}

/// The output of an operator whose size is decided by numbers or attributes; `None` for all others.
fn sized(
    node: &NodeProto,
    inputs: &[Option<&Value>],
    is_constant: bool,
) -> Result<Option<Value>, Unfollowable> {
    let input = |index: usize| inputs.get(index).copied().flatten();
    let first = input(0);
    let element = first.map_or(0, |value| value.element);
    let made = |shape: Option<Shape>, element: i32| Value { is_constant, element, shape, ..Value::default() };
    Ok(Some(match node.op_type() {
        operator if is_constant && UNFOLLOWED.contains(&operator) => return Err(Unfollowable),
        "ConstantOfShape" => filled(node, amounts(first)?, is_constant),
        "Expand" => {
            let target = amounts(input(1))?.map(sizes);
            made(target.and_then(|target| broadcast([Some(first?.shape.as_ref()?), Some(&target)])), element)
        }
        "Tile" => {
            let repeats = amounts(input(1))?;
            made(repeats.and_then(|repeats| tiled(first, &repeats)), element)
        }
        "Range" => range(input(0), input(1), input(2), is_constant)?,
        "OneHot" => {
            let depth = amounts(input(1))?.and_then(|depth| depth.first().copied());
            let depth = depth.and_then(|depth| u64::try_from(depth).ok());
            let shape = first.and_then(|value| value.shape.clone());
            // Of places that come at run time the depth alone says how much it is at least.
            let shape = if is_constant { shape } else { Some(shape.unwrap_or_default()) };
            let shape = shape.map(|shape| [shape, vec![depth]].concat());
            made(shape, input(2).map_or(0, |values| values.element))
        }
        "Pad" => made(padded(node, inputs)?, element),
        "Resize" | "Upsample" => made(resized(node, inputs)?, element),
        "RandomNormal" | "RandomUniform" => {
            let shape = attribute(node, "shape").map(|given| sizes(given.ints.clone()));
            made(shape, data_type::FLOAT)
        }
        "HannWindow" | "HammingWindow" | "BlackmanWindow" => {
            made(amounts(first)?.map(sizes), data_type::FLOAT)
        }
        "AffineGrid" | "CenterCropPad" | "Col2Im" => made(amounts(input(1))?.map(sizes), data_type::FLOAT),
        "MaxUnpool" => made(amounts(input(2))?.map(sizes), data_type::FLOAT),
        "MelWeightMatrix" => {
            let (columns, rows) = (amounts(first)?, amounts(input(1))?);
            made(rows.zip(columns).map(|(rows, columns)| sizes([rows, columns].concat())), data_type::DOUBLE)
        }
        "ConvTranspose" => {
            made(attribute(node, "output_shape").map(|given| sizes(given.ints.clone())), element)
        }
        // Its equation may multiply everything with everything.
        "Einsum" if is_constant && inputs.len() > 8 => return Err(Unfollowable),
        "Einsum" if is_constant => {
            let all = inputs.iter().flatten().map(|value| value.shape.as_deref());
            made(all.collect::<Option<Vec<_>>>().map(|shapes| shapes.concat()), element)
        }
        _ => return Ok(None),
    }))
}

/// The numbers that decide the size of an output: `None` where they come at run time.
fn amounts(value: Option<&Value>) -> Result<Option<Vec<i64>>, Unfollowable> {
    let Some(value) = value else { return Ok(None) };
    match value.numbers.as_ref().map(Numbers::whole) {
        Some(Some(amounts)) => Ok(Some(amounts.to_vec())),
        _ if value.is_constant => Err(Unfollowable),
        _ => Ok(None),
    }
}

/// Numbers as dimensions; the runtime refuses negative ones itself.
fn sizes(numbers: Vec<i64>) -> Shape {
    numbers.into_iter().map(|size| Some(u64::try_from(size).unwrap_or(1))).collect()
}

fn constant(node: &NodeProto) -> Value {
    if let Some(sparse) = attribute(node, "sparse_value").and_then(|given| given.sparse_tensor.as_deref()) {
        let element = sparse.values.as_ref().map_or(0, |values| values.data_type());
        let shape = (sparse.dims.len() <= MOST_DIMENSIONS).then(|| sizes(sparse.dims.clone()));
        return Value { is_constant: true, element, shape, ..Value::default() };
    }
    let Some(given) = node.attribute.iter().find(|given| given.name().starts_with("value")) else {
        return Value { is_constant: true, ..Value::default() };
    };
    if let Some(tensor) = &given.t {
        return of_tensor(tensor, &Files::none());
    }
    let scalar = |numbers, element| Value {
        shape: Some(Vec::new()),
        ..Value::of_numbers(Some(numbers), element, true)
    };
    let list = |len: usize, numbers: &dyn Fn() -> Numbers, element| Value {
        is_constant: true,
        element,
        shape: Some(vec![Some(len as u64)]),
        numbers: (len as u64 <= MOST_NUMBERS).then(numbers),
        ..Value::default()
    };
    match given.name() {
        "value_int" => scalar(Numbers::Whole(vec![given.i()]), data_type::INT64),
        "value_float" => scalar(Numbers::Real(vec![f64::from(given.f())]), data_type::FLOAT),
        "value_ints" => list(given.ints.len(), &|| Numbers::Whole(given.ints.clone()), data_type::INT64),
        "value_floats" => {
            let numbers = || Numbers::Real(given.floats.iter().map(|&number| f64::from(number)).collect());
            list(given.floats.len(), &numbers, data_type::FLOAT)
        }
        "value_strings" => Value {
            numbers: None,
            ..list(given.strings.len(), &|| Numbers::Whole(vec![]), data_type::STRING)
        },
        _ => Value {
            shape: Some(Vec::new()),
            is_constant: true,
            element: data_type::STRING,
            ..Value::default()
        },
    }
}

/// The dimensions of a value, or their product, as a value.
fn measured(node: &NodeProto, inputs: &[Option<&Value>], is_constant: bool) -> Value {
    let mut numbers = Value::of_numbers(numbers_of_shape(node, inputs), data_type::INT64, is_constant);
    if node.op_type() == "Size" {
        numbers.shape = Some(Vec::new());
    }
    numbers
}

/// The dimensions of an input as numbers, where all that are asked for are known.
fn numbers_of_shape(node: &NodeProto, inputs: &[Option<&Value>]) -> Option<Numbers> {
    let value = (*inputs.first()?)?;
    let shape = value.shape.as_ref()?;
    if node.op_type() == "Size" {
        return Some(Numbers::Whole(vec![i64::try_from(value.elements()?).ok()?]));
    }
    let rank = shape.len() as i64;
    let place = |name: &str, default: i64| {
        let given = attribute(node, name).and_then(|given| given.i).unwrap_or(default);
        (if given < 0 { given.saturating_add(rank) } else { given }).clamp(0, rank) as usize
    };
    let (start, end) = (place("start", 0), place("end", rank));
    let asked = shape.get(start..end.max(start))?;
    asked.iter().map(|size| i64::try_from((*size)?).ok()).collect::<Option<_>>().map(Numbers::Whole)
}

fn filled(node: &NodeProto, amounts: Option<Vec<i64>>, is_constant: bool) -> Value {
    let fill = attribute(node, "value").and_then(|given| given.t.as_deref());
    let fill = fill.map(|tensor| of_tensor(tensor, &Files::none()));
    let element = fill.as_ref().map_or(data_type::FLOAT, |fill| fill.element);
    let shape = amounts.map(sizes);
    let value = Value { is_constant, element, shape, ..Value::default() };
    let fill = fill.map_or(Some(Numbers::Real(vec![0.0])), |fill| fill.numbers);
    let numbers = value.elements().and_then(|count| fill?.repeat(count));
    Value { numbers, ..value }
}

/// At least the repeats where the data comes at run time; of constants exactly, or not at all.
fn tiled(value: Option<&Value>, repeats: &[i64]) -> Option<Shape> {
    let is_constant = value.is_some_and(|value| value.is_constant);
    let shape = value.and_then(|value| value.shape.clone());
    if is_constant && !shape.as_ref().is_some_and(|shape| shape.iter().all(Option::is_some)) {
        return None;
    }
    let shape = shape.unwrap_or_else(|| vec![Some(1); repeats.len()]);
    let repeats = repeats.iter().map(|&repeat| u64::try_from(repeat).unwrap_or(0));
    // A product too large for 64 bits is too large for memory as well.
    let pairs = shape.into_iter().zip(repeats);
    Some(pairs.map(|(size, repeat)| Some(size.unwrap_or(1).saturating_mul(repeat))).collect())
}

fn range(
    start: Option<&Value>,
    limit: Option<&Value>,
    step: Option<&Value>,
    is_constant: bool,
) -> Result<Value, Unfollowable> {
    let element = start.map_or(0, |value| value.element);
    let number = |value: Option<&Value>| value.and_then(|value| value.numbers.as_ref()?.single());
    let (Some(first), Some(last), Some(by)) = (number(start), number(limit), number(step)) else {
        if is_constant {
            return Err(Unfollowable);
        }
        return Ok(Value { is_constant, element, shape: Some(vec![None]), ..Value::default() });
    };
    let count = ((last - first) / by).ceil();
    // Not a number where the step is zero, which the runtime refuses.
    let count = if count > 0.0 { count as u64 } else { 0 };
    let whole = |value: Option<&Value>| Some(*value?.numbers.as_ref()?.whole()?.first()?);
    let numbers = match (whole(start), whole(step)) {
        (Some(first), Some(by)) if count <= 256 => Some(Numbers::Whole(
            (0..count as i64).map(|index| first.wrapping_add(index.wrapping_mul(by))).collect(),
        )),
        _ => None,
    };
    Ok(Value { is_constant, element, shape: Some(vec![Some(count)]), numbers, ..Value::default() })
}

fn padded(node: &NodeProto, inputs: &[Option<&Value>]) -> Result<Option<Shape>, Unfollowable> {
    let input = |index: usize| inputs.get(index).copied().flatten();
    let shape = input(0).and_then(|value| value.shape.clone());
    if shape.is_none() && input(0).is_some_and(|value| value.is_constant) {
        return Err(Unfollowable);
    }
    let given = ["pads", "paddings"].into_iter().find_map(|name| attribute(node, name));
    let pads = match given {
        Some(given) => Some(given.ints.clone()),
        None => amounts(input(1))?,
    };
    let Some(pads) = pads else { return Ok(None) };
    let half = pads.len() / 2;
    let rank = shape.as_ref().map_or(half, Vec::len);
    let mut shape = shape.unwrap_or_else(|| vec![None; rank]);
    let axes = match amounts(input(3))? {
        Some(axes) => axes,
        None if input(3).is_some() => return Ok(None),
        None => (0..half as i64).collect(),
    };
    for (index, axis) in axes.into_iter().enumerate().take(half) {
        let axis = usize::try_from(if axis < 0 { axis + rank as i64 } else { axis }).unwrap_or(usize::MAX);
        if let Some(size) = shape.get_mut(axis) {
            let added = i128::from(pads[index]) + i128::from(pads[index + half]);
            let sum = i128::from(size.unwrap_or(0)) + added;
            // What is at least so large counts, also where the rest is unknown.
            *size = match *size {
                None if sum <= 0 => None,
                _ => Some(u64::try_from(sum.max(0)).unwrap_or(u64::MAX)),
            };
        }
    }
    Ok(Some(shape))
}

fn resized(node: &NodeProto, inputs: &[Option<&Value>]) -> Result<Option<Shape>, Unfollowable> {
    let input = |index: usize| inputs.get(index).copied().flatten();
    let is_constant = input(0).is_some_and(|value| value.is_constant);
    // Sizes are then those of some axes, or what others are chosen by.
    let is_partial = ["axes", "keep_aspect_ratio_policy"].iter().any(|name| attribute(node, name).is_some());
    if is_constant && (is_partial || input(0).and_then(Value::elements).is_none()) {
        return Err(Unfollowable);
    }
    if let Some(sizes) = amounts(input(3))?.filter(|sizes| !sizes.is_empty()) {
        return Ok(Some(self::sizes(sizes)));
    }
    let given = attribute(node, "scales")
        .map(|given| Numbers::Real(given.floats.iter().map(|&scale| f64::from(scale)).collect()));
    let scales = if node.op_type() == "Upsample" { input(1) } else { input(2) };
    let scales = match given.or_else(|| scales?.numbers.clone()) {
        Some(scales) => scales.real(),
        None if scales.is_some_and(|scales| scales.is_constant && scales.elements() != Some(0)) => {
            return Err(Unfollowable);
        }
        None => return Ok(None),
    };
    let shape = input(0).and_then(|value| value.shape.clone());
    let shape = shape.unwrap_or_else(|| vec![None; scales.len()]);
    let scaled = |(size, scale): (Option<u64>, f64)| Some((size.unwrap_or(1) as f64 * scale) as u64);
    Ok(Some(shape.into_iter().zip(scales).map(scaled).collect()))
}

fn concat(node: &NodeProto, inputs: &[Option<&Value>], is_constant: bool) -> Value {
    let present: Vec<&Value> = inputs.iter().copied().flatten().collect();
    let element = present.first().map_or(0, |value| value.element);
    let shapes: Option<Vec<&Shape>> = present.iter().map(|value| value.shape.as_ref()).collect();
    let axis = attribute(node, "axis").and_then(|axis| axis.i).unwrap_or(0);
    let shape = shapes.and_then(|shapes| {
        let rank = shapes.first()?.len();
        let axis = usize::try_from(if axis < 0 { axis + rank as i64 } else { axis }).ok()?;
        let mut joined = shapes.first()?.to_vec();
        let sum = shapes.iter().map(|shape| shape.get(axis).copied().flatten());
        // Symbols may be any number: what is known bounds the sum from below only for itself.
        let sum: Option<Vec<u64>> = sum.collect();
        *joined.get_mut(axis)? = sum.map(|sizes| sizes.into_iter().fold(0, u64::saturating_add));
        Some(joined)
    });
    let is_list = shape.as_ref().is_some_and(|shape| shape.len() == 1);
    let lists: Option<Vec<&Numbers>> = present.iter().map(|value| value.numbers.as_ref()).collect();
    let numbers = lists.filter(|_| is_list).and_then(|lists| Numbers::join(lists.into_iter()));
    Value { is_constant, element, shape, numbers, ..Value::default() }
}

/// Some axes of a value made one, or left away.
fn reduced(node: &NodeProto, inputs: &[Option<&Value>], is_constant: bool) -> Value {
    let input = |index: usize| inputs.get(index).copied().flatten();
    let Some(value) = input(0) else { return Value { is_constant, ..Value::default() } };
    let flag =
        |name: &str, default: i64| attribute(node, name).and_then(|given| given.i).unwrap_or(default) != 0;
    let shape = value.shape.as_ref().and_then(|shape| {
        let rank = shape.len() as i64;
        let axes = match (attribute(node, "axes"), input(1)) {
            (Some(given), _) => given.ints.clone(),
            (None, Some(axes)) => axes.numbers.as_ref()?.whole()?.to_vec(),
            (None, None) if node.op_type().starts_with("Arg") => {
                vec![attribute(node, "axis").and_then(|axis| axis.i).unwrap_or(0)]
            }
            (None, None) => Vec::new(),
        };
        let is_all = axes.is_empty() && !flag("noop_with_empty_axes", 0);
        let is_gone = |index: usize| {
            is_all
                || axes
                    .iter()
                    .any(|&axis| (if axis < 0 { axis.saturating_add(rank) } else { axis }) == index as i64)
        };
        let kept = |(index, size): (usize, &Option<u64>)| match is_gone(index) {
            true => flag("keepdims", 1).then_some(Some(1)),
            false => Some(*size),
        };
        Some(shape.iter().enumerate().filter_map(kept).collect::<Shape>())
    });
    let is_single = shape.as_ref().is_some_and(|shape| shape.iter().all(|size| *size == Some(1)));
    let numbers =
        value.numbers.as_ref().filter(|_| is_single).and_then(|numbers| numbers.reduce(node.op_type()));
    let numbers = numbers.and_then(|numbers| numbers.held_as(value.element));
    Value { is_constant, element: value.element, shape, numbers, ..Value::default() }
}

fn gather_nd(inputs: &[Option<&Value>]) -> Option<Shape> {
    let data = (*inputs.first()?)?.shape.as_ref()?;
    let places = (*inputs.get(1)?)?.shape.as_ref()?;
    let (last, before) = places.split_last()?;
    Some([before, data.get(usize::try_from((*last)?).ok()?..)?].concat())
}

/// The same elements in another shape.
fn rearranged(node: &NodeProto, inputs: &[Option<&Value>], is_constant: bool) -> Value {
    let Some(Some(value)) = inputs.first() else { return Value { is_constant, ..Value::default() } };
    let numbers = inputs.get(1).copied().flatten().and_then(|value| value.numbers.as_ref());
    let given = attribute(node, "axes").or(attribute(node, "shape")).map(|given| given.ints.clone());
    let given = given.or_else(|| numbers?.whole().map(<[i64]>::to_vec));
    let shape = value.shape.as_ref().and_then(|shape| match node.op_type() {
        "Reshape" => reshaped(value, &given?),
        "Unsqueeze" => unsqueezed(shape, &given?),
        "Squeeze" => squeezed(shape, given.as_deref()),
        "Transpose" => match attribute(node, "perm") {
            None => Some(shape.iter().rev().copied().collect()),
            Some(order) => {
                order.ints.iter().map(|&axis| shape.get(usize::try_from(axis).ok()?).copied()).collect()
            }
        },
        _ => None,
    });
    let numbers = match node.op_type() {
        "Transpose" => turned(value, attribute(node, "perm").map(|order| order.ints.as_slice())),
        _ => value.numbers.clone(),
    };
    Value { is_constant, element: value.element, shape, numbers, ..Value::default() }
}

fn reshaped(value: &Value, target: &[i64]) -> Option<Shape> {
    let shape = value.shape.as_ref()?;
    let mut sizes: Shape = Vec::new();
    for (index, &size) in target.iter().enumerate() {
        sizes.push(match size {
            0 => *shape.get(index)?,
            size => u64::try_from(size).ok(),
        });
    }
    // A size of -1 stands for what is left.
    if let Some(total) = value.elements()
        && sizes.iter().filter(|size| size.is_none()).count() == 1
    {
        let known = sizes.iter().flatten().try_fold(1_u64, |product, &size| product.checked_mul(size))?;
        *sizes.iter_mut().find(|size| size.is_none())? = total.checked_div(known);
    }
    Some(sizes)
}

fn unsqueezed(shape: &Shape, axes: &[i64]) -> Option<Shape> {
    let rank = shape.len() + axes.len();
    let mut new = vec![false; rank];
    for &axis in axes {
        let axis = usize::try_from(if axis < 0 { axis + rank as i64 } else { axis }).ok()?;
        *new.get_mut(axis)? = true;
    }
    let mut old = shape.iter().copied();
    new.into_iter().map(|is_new| if is_new { Some(Some(1)) } else { old.next() }).collect()
}

fn squeezed(shape: &Shape, axes: Option<&[i64]>) -> Option<Shape> {
    let rank = shape.len() as i64;
    match axes {
        Some(axes) => {
            let gone = |index: usize| {
                axes.iter().any(|&axis| (if axis < 0 { axis + rank } else { axis }) == index as i64)
            };
            Some(shape.iter().enumerate().filter(|(index, _)| !gone(*index)).map(|(_, size)| *size).collect())
        }
        None if shape.iter().all(Option::is_some) => {
            Some(shape.iter().filter(|size| **size != Some(1)).copied().collect())
        }
        None => None,
    }
}

fn matmul(left: Option<&Value>, right: Option<&Value>) -> Option<Shape> {
    let (left, right) = (left?.shape.as_ref()?, right?.shape.as_ref()?);
    let (&[ref before @ .., rows, _], &[ref batch @ .., _, columns]) = (left.as_slice(), right.as_slice())
    else {
        return None;
    };
    let mut shape = broadcast([Some(&before.to_vec()), Some(&batch.to_vec())])?;
    shape.extend([rows, columns]);
    Some(shape)
}

fn gemm(node: &NodeProto, left: Option<&Value>, right: Option<&Value>) -> Option<Shape> {
    let side = |value: Option<&Value>, name: &str, index: usize| {
        let is_turned = attribute(node, name).and_then(|given| given.i).unwrap_or(0) != 0;
        value?.shape.as_ref()?.get(if is_turned { 1 - index } else { index }).copied()
    };
    Some(vec![side(left, "transA", 0)?, side(right, "transB", 1)?])
}

fn choose(inputs: &[Option<&Value>], is_constant: bool) -> Value {
    let input = |index: usize| inputs.get(index).copied().flatten();
    let (condition, yes, no) = (input(0), input(1), input(2));
    let shape = broadcast(inputs.iter().flatten().map(|value| value.shape.as_ref()));
    let numbers = || {
        let list = |value: Option<&Value>, len: usize| {
            let numbers = value?.numbers.as_ref()?;
            let numbers = if numbers.len() == 1 { numbers.repeat(len as u64)? } else { numbers.clone() };
            numbers.whole().filter(|list| list.len() == len).map(<[i64]>::to_vec)
        };
        let len =
            [condition, yes, no].iter().filter_map(|value| Some((*value)?.numbers.as_ref()?.len())).max()?;
        let (condition, yes, no) = (list(condition, len)?, list(yes, len)?, list(no, len)?);
        let pairs = condition.into_iter().zip(yes.into_iter().zip(no));
        Some(Numbers::Whole(pairs.map(|(first, (yes, no))| if first != 0 { yes } else { no }).collect()))
    };
    let value =
        Value { is_constant, element: yes.map_or(0, |value| value.element), shape, ..Value::default() };
    let numbers = numbers().filter(|numbers| value.elements() == Some(numbers.len() as u64));
    Value { numbers, ..value }
}

fn pairwise(operator: &str, inputs: &[Option<&Value>], is_constant: bool) -> Value {
    let present: Vec<&Value> = inputs.iter().copied().flatten().collect();
    let shape = broadcast(present.iter().map(|value| value.shape.as_ref()));
    let is_truth = matches!(
        operator,
        "And" | "Or" | "Xor" | "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual"
    );
    let element = present.first().map_or(0, |value| value.element);
    let element = if is_truth { data_type::BOOL } else { element };
    let value = Value { is_constant, element, shape, ..Value::default() };
    let numbers = match present.as_slice() {
        [left, right] => left
            .numbers
            .as_ref()
            .zip(right.numbers.as_ref())
            .and_then(|(left, right)| left.combine(right, operator)?.held_as(element)),
        _ => None,
    };
    // Pairs of equal length may still stand across each other, as rows and columns.
    let numbers = numbers.filter(|numbers| value.elements() == Some(numbers.len() as u64));
    Value { numbers, ..value }
}

/// The shape of values of these shapes side by side; `None` where one is unknown or they do not go together.
fn broadcast<'s>(shapes: impl IntoIterator<Item = Option<&'s Shape>>) -> Option<Shape> {
    let mut joined: Shape = Vec::new();
    for shape in shapes {
        let shape = shape?;
        if shape.len() > joined.len() {
            let missing = shape.len() - joined.len();
            joined.splice(0..0, std::iter::repeat_n(Some(1), missing));
        }
        let offset = joined.len() - shape.len();
        for (size, &other) in joined[offset..].iter_mut().zip(shape) {
            *size = match (*size, other) {
                (Some(1), other) => other,
                (size, Some(1)) => size,
                (None, known @ Some(_)) | (known @ Some(_), None) => known,
                (one, other) if one == other => one,
                _ => return None,
            };
        }
    }
    Some(joined)
}
