//! The last hidden state of a pass, in graphs that give it away.

use ort::memory::Allocator;
use ort::session::IoBinding;
use ort::value::Tensor;

/// The output f32 `[batch, tokens, width]` that a pass over graphs adds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HiddenState {
    pub(crate) name: String,
    pub(crate) width: usize,
}

impl HiddenState {
    /// Room for the state of `tokens` tokens, bound: the pass writes it there. A graph computes nothing for
    /// an output that is not bound but one copy.
    pub(super) fn bind(&self, binding: &mut IoBinding, tokens: usize) -> ort::Result<Tensor<f32>> {
        let shape = [1, tokens as i64, self.width as i64];
        let mut rows = Tensor::<f32>::new(&Allocator::default(), shape)?;
        binding.bind_output(self.name.as_str(), &mut rows)?;
        Ok(rows)
    }
}
