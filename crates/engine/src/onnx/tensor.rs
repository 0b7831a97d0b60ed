//! KV tensors of shape `[1, heads, rows, head_size]`: making them and moving rows between them.

use std::ops::Range;

use half::f16;
use ort::memory::Allocator;
use ort::value::{DynTensor, TensorElementType};

use super::contract::KvPair;
use crate::KvElement;

/// The shape of a tensor of `rows` rows.
pub(super) fn shape(pair: &KvPair, rows: usize) -> [i64; 4] {
    [1, pair.heads as i64, rows as i64, pair.head_size as i64]
}

/// A zero-filled tensor of `rows` rows.
pub(super) fn zeroed(pair: &KvPair, rows: usize) -> ort::Result<DynTensor> {
    let element = match pair.element {
        KvElement::F32 => TensorElementType::Float32,
        KvElement::F16 => TensorElementType::Float16,
    };
    DynTensor::new(&Allocator::default(), element, shape(pair, rows))
}

/// A tensor of `rows` rows of which the first `kept` come from `source`, whose rows are `source_rows`.
pub(super) fn resized(
    pair: &KvPair,
    source: &DynTensor,
    source_rows: usize,
    kept: usize,
    rows: usize,
) -> ort::Result<DynTensor> {
    let mut target = zeroed(pair, rows)?;
    let place = |rows: usize| Place { heads: pair.heads, head_size: pair.head_size, rows };
    match pair.element {
        KvElement::F32 => copy_rows(
            source.try_extract_tensor::<f32>()?.1,
            place(source_rows),
            target.try_extract_tensor_mut::<f32>()?.1,
            place(rows),
            kept,
        ),
        KvElement::F16 => copy_rows(
            source.try_extract_tensor::<f16>()?.1,
            place(source_rows),
            target.try_extract_tensor_mut::<f16>()?.1,
            place(rows),
            kept,
        ),
    }
    Ok(target)
}

/// How a tensor's elements lie in memory.
#[derive(Clone, Copy)]
struct Place {
    heads: usize,
    head_size: usize,
    rows: usize,
}

impl Place {
    /// Where the elements of `rows` lie, head by head.
    fn heads_of(self, rows: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        (0..self.heads).map(move |head| {
            let first = head * self.rows;
            (first + rows.start) * self.head_size..(first + rows.end) * self.head_size
        })
    }
}

/// Copies the first `kept` rows of every head.
fn copy_rows<T: Copy>(source: &[T], from: Place, target: &mut [T], to: Place, kept: usize) {
    for head in 0..from.heads {
        let start = head * from.rows * from.head_size;
        let goal = head * to.rows * to.head_size;
        let length = kept * from.head_size;
        target[goal..goal + length].copy_from_slice(&source[start..start + length]);
    }
}

/// The rows that a tensor has room for.
pub(super) fn capacity(tensor: &DynTensor) -> usize {
    tensor.shape()[2] as usize
}

/// Appends `rows` of every head to `bytes`, which are little-endian.
pub(super) fn read_rows(
    pair: &KvPair,
    tensor: &DynTensor,
    rows: Range<usize>,
    bytes: &mut Vec<u8>,
) -> ort::Result<()> {
    let place = Place { heads: pair.heads, head_size: pair.head_size, rows: capacity(tensor) };
    match pair.element {
        KvElement::F32 => {
            let values = tensor.try_extract_tensor::<f32>()?.1;
            for head in place.heads_of(rows) {
                append(bytes, &values[head], f32::to_le_bytes);
            }
        }
        KvElement::F16 => {
            let values = tensor.try_extract_tensor::<f16>()?.1;
            for head in place.heads_of(rows) {
                append(bytes, &values[head], f16::to_le_bytes);
            }
        }
    }
    Ok(())
}

fn append<T: Copy, const SIZE: usize>(bytes: &mut Vec<u8>, values: &[T], encode: impl Fn(T) -> [u8; SIZE]) {
    let before = bytes.len();
    bytes.resize(before + values.len() * SIZE, 0);
    for (target, &value) in bytes[before..].as_chunks_mut().0.iter_mut().zip(values) {
        *target = encode(value);
    }
}

/// Writes `rows` of every head from `bytes`, which are as [`read_rows`] gave them.
pub(super) fn write_rows(
    pair: &KvPair,
    tensor: &mut DynTensor,
    rows: Range<usize>,
    bytes: &[u8],
) -> ort::Result<()> {
    let place = Place { heads: pair.heads, head_size: pair.head_size, rows: capacity(tensor) };
    let head_bytes = bytes.chunks_exact(rows.len() * pair.head_size * pair.element.bytes());
    match pair.element {
        KvElement::F32 => {
            let values = tensor.try_extract_tensor_mut::<f32>()?.1;
            for (head, bytes) in place.heads_of(rows).zip(head_bytes) {
                for (value, &bytes) in values[head].iter_mut().zip(bytes.as_chunks().0) {
                    *value = f32::from_le_bytes(bytes);
                }
            }
        }
        KvElement::F16 => {
            let values = tensor.try_extract_tensor_mut::<f16>()?.1;
            for (head, bytes) in place.heads_of(rows).zip(head_bytes) {
                for (value, &bytes) in values[head].iter_mut().zip(bytes.as_chunks().0) {
                    *value = f16::from_le_bytes(bytes);
                }
            }
        }
    }
    Ok(())
}
