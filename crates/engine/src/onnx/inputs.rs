//! The integer inputs of a pass: token ids, attention mask, positions.
//!
//! A reply is hundreds of passes over one token each. Their inputs are bound once and written in place; only
//! the mask, whose length tells the graph how many rows there are, is another tensor each time.

use ort::memory::Allocator;
use ort::session::IoBinding;
use ort::value::{DynTensor, Tensor, TensorElementType};

use super::contract::{Contract, IntegerType, Integers};
use crate::TokenId;

/// The inputs of one cache's binding.
pub(super) struct Inputs {
    token: One,
    position: Option<One>,
    /// Whether the binding holds what a pass of one token needs, its output for the logits included.
    is_bound_for_one: bool,
}

impl Inputs {
    pub(super) fn new(contract: &Contract) -> ort::Result<Self> {
        let position = contract.position_ids.as_ref().map(One::new).transpose()?;
        Ok(Self { token: One::new(&contract.input_ids)?, position, is_bound_for_one: false })
    }

    /// Binds what a pass over `tokens` behind `past` rows reads, of which `rows` are to get logits. Returns
    /// whether the output for the logits of one token is bound already.
    pub(super) fn bind(
        &mut self,
        contract: &Contract,
        binding: &mut IoBinding,
        past: usize,
        tokens: &[TokenId],
        rows: usize,
    ) -> ort::Result<bool> {
        let total = past + tokens.len();
        if let Some(mask) = &contract.attention_mask {
            bind(binding, mask, &[1, total], std::iter::repeat_n(1, total))?;
        }
        let &[token] = tokens else {
            self.is_bound_for_one = false;
            let count = tokens.len();
            bind(binding, &contract.input_ids, &[1, count], tokens.iter().map(|&token| i64::from(token)))?;
            if let Some(positions) = &contract.position_ids {
                bind(binding, positions, &[1, count], (past..total).map(|position| position as i64))?;
            }
            bind_rows(contract, binding, rows)?;
            return Ok(false);
        };
        self.token.set(i64::from(token))?;
        if let Some(position) = &mut self.position {
            position.set(past as i64)?;
        }
        if self.is_bound_for_one {
            return Ok(true);
        }
        binding.bind_input(contract.input_ids.name.as_str(), &self.token.tensor)?;
        if let (Some(input), Some(position)) = (&contract.position_ids, &self.position) {
            binding.bind_input(input.name.as_str(), &position.tensor)?;
        }
        bind_rows(contract, binding, 1)?;
        Ok(false)
    }

    /// Notes that the binding holds everything that the next pass of one token needs.
    pub(super) fn stay_bound(&mut self) {
        self.is_bound_for_one = true;
    }
}

/// Asks for the logits of the last `rows` tokens, where the graph can be asked.
fn bind_rows(contract: &Contract, binding: &mut IoBinding, rows: usize) -> ort::Result<()> {
    match &contract.logits_to_keep {
        Some(keep) => bind(binding, keep, &vec![1; keep.rank], std::iter::once(rows as i64)),
        None => Ok(()),
    }
}

/// A tensor of one number, `[1, 1]`.
struct One {
    tensor: DynTensor,
    element: IntegerType,
}

impl One {
    fn new(input: &Integers) -> ort::Result<Self> {
        let element = match input.element {
            IntegerType::I64 => TensorElementType::Int64,
            IntegerType::I32 => TensorElementType::Int32,
        };
        Ok(Self {
            tensor: DynTensor::new(&Allocator::default(), element, [1_i64, 1])?,
            element: input.element,
        })
    }

    fn set(&mut self, value: i64) -> ort::Result<()> {
        match self.element {
            IntegerType::I64 => self.tensor.try_extract_tensor_mut::<i64>()?.1.fill(value),
            IntegerType::I32 => self.tensor.try_extract_tensor_mut::<i32>()?.1.fill(value as i32),
        }
        Ok(())
    }
}

fn bind(
    binding: &mut IoBinding,
    input: &Integers,
    shape: &[usize],
    values: impl Iterator<Item = i64>,
) -> ort::Result<()> {
    let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
    let name = input.name.as_str();
    match input.element {
        IntegerType::I64 => {
            binding.bind_input(name, &Tensor::from_array((shape, values.collect::<Vec<i64>>()))?)
        }
        IntegerType::I32 => {
            let values: Vec<i32> = values.map(|value| value as i32).collect();
            binding.bind_input(name, &Tensor::from_array((shape, values))?)
        }
    }
}
