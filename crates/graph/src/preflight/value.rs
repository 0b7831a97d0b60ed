//! What is known of one value before a graph runs.

use super::numbers::Numbers;
use super::tensors::element_bits;

/// What is known of a value. A dimension is unknown where it is a symbol.
#[derive(Debug, Clone, Default)]
pub(super) struct Value {
    /// Whether it depends on constants alone.
    pub(super) is_constant: bool,
    /// The type of its elements; 0 where it is unknown.
    pub(super) element: i32,
    pub(super) shape: Option<Vec<Option<u64>>>,
    pub(super) numbers: Option<Numbers>,
    /// The bytes that it takes at most, where it is constant: also where its shape is unknown.
    pub(super) most_bytes: u64,
}

impl Value {
    /// The number of its elements, where all of its dimensions are known.
    pub(super) fn elements(&self) -> Option<u64> {
        let mut product = 1_u64;
        for size in self.shape.as_ref()? {
            product = product.checked_mul((*size)?)?;
        }
        Some(product)
    }

    /// The most elements that a constant has; those of the smallest type have two bits.
    pub(super) fn most_elements(&self) -> u64 {
        let bits = element_bits(self.element).unwrap_or(2);
        self.elements().unwrap_or_else(|| self.most_bytes.saturating_mul(8) / bits)
    }

    /// Its dimensions and its numbers, where both are known and belong together. There is at least one: with
    /// none, the dimensions beside the zero may be of any size.
    pub(super) fn grid(&self) -> Option<(Vec<u64>, &Numbers)> {
        let numbers = self.numbers.as_ref().filter(|numbers| numbers.len() > 0)?;
        let belong = self.elements() == Some(numbers.len() as u64);
        let dimensions = self.shape.iter().flatten().copied().collect::<Option<_>>()?;
        belong.then_some((dimensions, numbers))
    }

    /// The bytes that it takes at least; `None` where they have more than 64 bits.
    pub(super) fn least_bytes(&self) -> Option<u64> {
        let known = || self.shape.iter().flatten().flatten();
        if known().any(|&size| size == 0) {
            return Some(0);
        }
        let elements = known().try_fold(1_u64, |product, &size| product.checked_mul(size))?;
        Some(elements.checked_mul(element_bits(self.element).unwrap_or(32))?.div_ceil(8))
    }

    /// The bytes that it takes, where its shape is known as a whole.
    pub(super) fn exact_bytes(&self) -> Option<u64> {
        let is_known = self.shape.as_ref().is_some_and(|shape| shape.iter().all(Option::is_some));
        is_known.then(|| self.least_bytes().unwrap_or(u64::MAX))
    }

    /// A list of numbers.
    pub(super) fn of_numbers(numbers: Option<Numbers>, element: i32, is_constant: bool) -> Self {
        let shape = numbers.as_ref().map(|numbers| vec![Some(numbers.len() as u64)]);
        Self { is_constant, element, shape, numbers, ..Self::default() }
    }

    /// What holds of a value that is either this or the other.
    pub(super) fn or(self, other: Self) -> Self {
        let bytes = |value: &Self| value.exact_bytes().unwrap_or(value.most_bytes);
        let most_bytes = bytes(&self).max(bytes(&other));
        Self {
            is_constant: self.is_constant || other.is_constant,
            element: if self.element == other.element { self.element } else { 0 },
            shape: self.shape.filter(|shape| other.shape.as_ref() == Some(shape)),
            numbers: self.numbers.filter(|numbers| other.numbers.as_ref() == Some(numbers)),
            most_bytes,
        }
    }
}
