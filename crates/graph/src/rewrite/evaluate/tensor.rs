//! A value with its shape and, where they are known, its numbers.

/// More numbers than this are not computed.
pub(super) const MOST_NUMBERS: usize = 1 << 22;

/// A dense value in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::rewrite) struct Tensor {
    shape: Vec<usize>,
    numbers: Option<Vec<f64>>,
    /// Whether its type holds whole numbers or truth values.
    pub(super) is_whole: bool,
}

impl Tensor {
    /// A tensor whose numbers, where they are given, are as many as its shape says; else without them.
    pub(super) fn new(shape: Vec<usize>, numbers: Option<Vec<f64>>, is_whole: bool) -> Self {
        let count = count(&shape);
        Self { numbers: numbers.filter(|numbers| Some(numbers.len()) == count), shape, is_whole }
    }

    /// Real numbers.
    pub(in crate::rewrite) fn real(shape: &[usize], numbers: Vec<f64>) -> Self {
        Self::new(shape.to_vec(), Some(numbers), false)
    }

    /// Whole numbers.
    pub(in crate::rewrite) fn whole(shape: &[usize], numbers: Vec<f64>) -> Self {
        Self::new(shape.to_vec(), Some(numbers), true)
    }

    /// A shape alone.
    pub(in crate::rewrite) fn shaped(shape: &[usize]) -> Self {
        Self::new(shape.to_vec(), None, false)
    }

    pub(in crate::rewrite) fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub(in crate::rewrite) fn numbers(&self) -> Option<&[f64]> {
        self.numbers.as_deref()
    }

    pub(super) fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The numbers as whole ones; those beyond 64 bits become the nearest.
    pub(super) fn integers(&self) -> Option<Vec<i64>> {
        Some(self.numbers()?.iter().map(|&number| number as i64).collect())
    }

    /// The same numbers in another shape of as many.
    pub(super) fn reshaped(&self, shape: Vec<usize>) -> Option<Self> {
        (count(&shape)? == count(&self.shape)?).then(|| Self { shape, ..self.clone() })
    }

    /// Each number changed.
    pub(super) fn map(&self, is_whole: bool, change: impl Fn(f64) -> f64) -> Self {
        let numbers = self.numbers().map(|numbers| numbers.iter().map(|&number| change(number)).collect());
        Self { shape: self.shape.clone(), numbers, is_whole }
    }

    /// The numbers that lie at `offset` and from there `steps` apart along each axis of `shape`.
    pub(super) fn view(&self, shape: Vec<usize>, offset: usize, steps: &[isize]) -> Self {
        let count = count(&shape).filter(|&count| count <= MOST_NUMBERS);
        let numbers = self.numbers().zip(count).and_then(|(numbers, count)| {
            let mut taken = Vec::with_capacity(count);
            let mut places = vec![0; shape.len()];
            let mut at = offset as isize;
            for _ in 0..count {
                taken.push(*numbers.get(usize::try_from(at).ok()?)?);
                for axis in (0..shape.len()).rev() {
                    places[axis] += 1;
                    at += steps[axis];
                    if places[axis] < shape[axis] {
                        break;
                    }
                    at -= steps[axis] * shape[axis] as isize;
                    places[axis] = 0;
                }
            }
            Some(taken)
        });
        Self { shape, numbers, is_whole: self.is_whole }
    }

    /// Repeated along axes of size 1 and before the first, to `shape`.
    pub(super) fn broadcast(&self, shape: &[usize]) -> Option<Self> {
        if self.shape == shape {
            return Some(self.clone());
        }
        let missing = shape.len().checked_sub(self.rank())?;
        let own = self.steps();
        let mut steps = vec![0; shape.len()];
        for (axis, &size) in self.shape.iter().enumerate() {
            match size {
                1 => {}
                _ if size == shape[missing + axis] => steps[missing + axis] = own[axis],
                _ => return None,
            }
        }
        Some(self.view(shape.to_vec(), 0, &steps))
    }

    /// How far apart neighbours along each axis lie.
    pub(super) fn steps(&self) -> Vec<isize> {
        // Shapes too large to count have no numbers to step over.
        let behind = |axis: usize| count(&self.shape[axis + 1..]).unwrap_or_default() as isize;
        (0..self.rank()).map(behind).collect()
    }
}

/// The number of elements of a shape.
pub(super) fn count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size))
}

/// The shape that two values have together.
pub(super) fn common_shape(left: &[usize], right: &[usize]) -> Option<Vec<usize>> {
    let rank = left.len().max(right.len());
    let size =
        |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |at| shape[at]);
    let together = |axis| match (size(left, axis), size(right, axis)) {
        (left, right) if left == right || right == 1 => Some(left),
        (1, right) => Some(right),
        _ => None,
    };
    (0..rank).map(together).collect()
}
