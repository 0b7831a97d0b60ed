//! KV tensors of shape `[1, heads, rows, head_size]`: making them and moving rows between them.

use half::f16;
use ort::memory::Allocator;
use ort::value::DynTensor;

use super::contract::{KvElement, KvPair};

/// A zero-filled tensor of `rows` rows.
pub(super) fn zeroed(pair: &KvPair, rows: usize) -> ort::Result<DynTensor> {
    let shape = [1, pair.heads as i64, rows as i64, pair.head_size as i64];
    DynTensor::new(&Allocator::default(), pair.element.tensor_type(), shape)
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

/// Copies the first `kept` rows of every head.
fn copy_rows<T: Copy>(source: &[T], from: Place, target: &mut [T], to: Place, kept: usize) {
    for head in 0..from.heads {
        let start = head * from.rows * from.head_size;
        let goal = head * to.rows * to.head_size;
        let length = kept * from.head_size;
        target[goal..goal + length].copy_from_slice(&source[start..start + length]);
    }
}
