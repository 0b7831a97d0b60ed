//! Questions to a graph: what a layer's attention makes of a few tokens, compared with what the kernel
//! would.

use std::collections::HashMap;

use super::Refusal;
use super::layer::{Layer, shown, sources};
use super::rotation::{Rotation, unknown};
use crate::rewrite::evaluate::{Evaluation, Tensor};
use crate::rewrite::wiring::{Wiring, dimensions};

/// Differences of this share come of rounding.
const TOLERANCE: f64 = 1e-6;
/// What is added to scores that must not count. Exporters write the smallest number of some type.
const MASKED: f64 = -1e4;

/// Whether a score does not count; what is no number does.
fn is_masked(score: f64) -> bool {
    score <= MASKED
}

/// More heads than any decoder has.
const MOST_HEADS: usize = 1024;

/// A pass over `tokens` new tokens after `past` others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Probe {
    pub(super) past: usize,
    pub(super) tokens: usize,
}

/// More numbers than all query heads of a token have.
const MOST_WIDTH: usize = 1 << 16;

/// No two of its sizes are the same. A layer may have as many heads as one of them, which the larger probe
/// tells apart.
const SMALL: Probe = Probe { past: 3, tokens: 4 };

impl Probe {
    /// A pass so much later that what grows with the position or the length has grown, still small enough
    /// to be computed for every head. None of its sizes is one of the small probe's.
    fn larger(rows: usize) -> Self {
        Self { past: 61.min(rows.saturating_sub(5)), tokens: 5 }
    }

    /// A pass over the last position that there can be.
    fn last(rows: usize) -> Self {
        Self { past: rows - 1, tokens: 1 }
    }

    pub(super) fn total(self) -> usize {
        self.past + self.tokens
    }

    /// Sets the inputs as the engine would: a mask of ones, positions in order.
    pub(super) fn set_inputs(self, wiring: &Wiring<'_>, evaluation: &mut Evaluation<'_, '_>) {
        for input in &wiring.graph().inputs {
            let name = input.name();
            let tensor = match name {
                "input_ids" => Tensor::shaped(&[1, self.tokens]),
                "attention_mask" => Tensor::whole(&[1, self.total()], vec![1.0; self.total()]),
                "position_ids" => {
                    let places = (self.past..self.total()).map(|place| place as f64).collect();
                    Tensor::whole(&[1, self.tokens], places)
                }
                "num_logits_to_keep" => Tensor::whole(&[], vec![1.0]),
                _ => {
                    let Some(shape) = self.shape(dimensions(input.r#type.as_ref())) else { continue };
                    Tensor::shaped(&shape)
                }
            };
            evaluation.set(name, tensor);
        }
    }

    /// The shape of a past input, or of embeddings.
    fn shape(self, dimensions: Option<Vec<Option<i64>>>) -> Option<Vec<usize>> {
        let known = |size: Option<i64>| usize::try_from(size?).ok();
        match *dimensions?.as_slice() {
            [_, heads, _, size] => Some(vec![1, known(heads)?, self.past, known(size)?]),
            [_, _, width] => Some(vec![1, self.tokens, known(width)?]),
            _ => None,
        }
    }
}

/// Numbers between -1 and 1 that differ from name to name.
pub(super) fn numbers_of(name: &str, count: usize) -> Vec<f64> {
    let mut state = name.bytes().fold(0x9e37_79b9_7f4a_7c15_u64, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// What a layer turned out to compute.
#[derive(Debug, Clone)]
pub(super) struct Proven {
    pub(super) heads: usize,
    /// Queries, keys and values as the kernel takes them.
    pub(super) query: Source,
    pub(super) key: Source,
    pub(super) value: Source,
    /// What scores are multiplied with.
    pub(super) scale: f64,
    /// How many tokens are attended to, where that is not all.
    pub(super) window: Option<usize>,
}

/// A value that the kernel takes.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) heads: usize,
    pub(super) form: Form,
}

#[derive(Debug, Clone)]
pub(super) enum Form {
    /// `[batch, tokens, heads · head size]`
    Rows,
    /// `[batch, tokens, heads, head size]`, of which `split` is what a Reshape made of rows.
    Heads { split: Option<String> },
}

/// Questions to all layers of a graph.
pub(super) struct Examination<'w, 'g> {
    wiring: &'w Wiring<'g>,
    /// The positions that there can be.
    rows: usize,
    /// Shapes, and the small lists that shapes are made of, at each probe so far: the walk that finds them
    /// is shared by all layers.
    shapes: HashMap<(usize, usize), Evaluation<'w, 'g>>,
}

impl<'w, 'g> Examination<'w, 'g> {
    pub(super) fn new(wiring: &'w Wiring<'g>, rows: usize) -> Self {
        Self { wiring, rows, shapes: HashMap::new() }
    }

    fn shapes(&mut self, probe: Probe) -> &mut Evaluation<'w, 'g> {
        self.shapes.entry((probe.past, probe.tokens)).or_insert_with(|| {
            let mut evaluation = Evaluation::new(self.wiring);
            probe.set_inputs(self.wiring, &mut evaluation);
            evaluation
        })
    }

    /// The number of query heads of a layer.
    pub(super) fn heads(&mut self, layer: &Layer) -> Result<usize, Refusal> {
        let shape = self.shapes(SMALL).value(&layer.query.heads).map(|tensor| tensor.shape().to_vec());
        match shape.as_deref() {
            Some(&[1, heads @ 1..=MOST_HEADS, tokens, size])
                if tokens == SMALL.tokens && size == layer.head_size && heads * size <= MOST_WIDTH =>
            {
                if heads % layer.kv_heads == 0 {
                    return Ok(heads);
                }
                let (layer, kv_heads) = (layer.number.clone(), layer.kv_heads);
                Err(Refusal::UnevenHeads { layer, heads, kv_heads })
            }
            Some(_) => Err(self.not_attention(layer, &layer.query.heads)),
            None => Err(unknown(&layer.number, self.shapes(SMALL), &layer.query.heads)),
        }
    }

    /// Asks for everything of a layer whose rotation, if it has one, is known.
    pub(super) fn prove(
        &mut self,
        layer: &Layer,
        heads: usize,
        rotation: Option<&Rotation>,
    ) -> Result<Proven, Refusal> {
        let window = self.window(layer)?;
        let query = self.source(layer, &layer.query.heads, heads)?;
        let key = self.source(layer, &layer.key.heads, layer.kv_heads)?;
        let value = self.source(layer, &layer.value_heads, layer.kv_heads)?;
        let mut proven = Proven { heads, query, key, value, scale: 0.0, window };
        proven.scale = self.compare(layer, &proven, rotation, SMALL)?;
        let later = self.compare(layer, &proven, rotation, Probe::larger(self.rows))?;
        let is_even = (later - proven.scale).abs() <= TOLERANCE * proven.scale;
        if !is_even || !self.scales_evenly(layer)? {
            return Err(Refusal::UnevenScale {
                layer: layer.number.clone(),
                node: self.maker(&layer.softmax_input),
            });
        }
        Ok(proven)
    }

    /// Whether scores are multiplied with one number, the same at the first positions and at the last.
    fn scales_evenly(&mut self, layer: &Layer) -> Result<bool, Refusal> {
        let mut first = None;
        for probe in [SMALL, Probe::last(self.rows)] {
            let (none, ones) = (self.scored(layer, probe, 0.0)?, self.scored(layer, probe, 1.0)?);
            let pairs = none.iter().flatten().zip(ones.iter().flatten());
            for factor in pairs.filter(|(none, _)| !is_masked(**none)).map(|(none, one)| one - none) {
                let difference = factor - *first.get_or_insert(factor);
                if difference.is_nan() || difference.abs() > TOLERANCE {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn maker(&self, value: &str) -> String {
        let maker = self.wiring.maker(value);
        maker.map_or_else(|| value.to_owned(), |index| shown(self.wiring.node(index)))
    }

    fn not_attention(&self, layer: &Layer, value: &str) -> Refusal {
        Refusal::NotAttention { layer: layer.number.clone(), node: self.maker(value) }
    }

    fn source(&mut self, layer: &Layer, heads: &str, count: usize) -> Result<Source, Refusal> {
        let found = sources(self.wiring, heads).ok_or_else(|| self.not_attention(layer, heads))?;
        let (rows, split) =
            ([1, SMALL.tokens, count * layer.head_size], [1, SMALL.tokens, count, layer.head_size]);
        let mut has = |name: &str, shape: &[usize]| {
            self.shapes(SMALL).value(name).is_some_and(|tensor| tensor.shape() == shape)
        };
        let of_rows = found.split.and_then(|node| node.input.first().zip(node.output.first()));
        let of_rows = of_rows.filter(|(flat, made)| has(flat, &rows) && has(made, &split));
        let source = |name: &str, form| Ok(Source { name: name.to_owned(), heads: count, form });
        match of_rows {
            Some((flat, made)) if made == found.turned => source(flat, Form::Rows),
            _ if has(found.turned, &split) => {
                let split = of_rows.map(|(_, made)| made.clone());
                source(found.turned, Form::Heads { split })
            }
            _ => Err(self.not_attention(layer, heads)),
        }
    }

    /// What is added to scores of zero: `[tokens, total]` for each head.
    fn added(&mut self, layer: &Layer, probe: Probe) -> Result<Vec<Vec<f64>>, Refusal> {
        self.scored(layer, probe, 0.0)
    }

    /// What the softmax is given where every product of queries and keys is `score`.
    fn scored(&mut self, layer: &Layer, probe: Probe, score: f64) -> Result<Vec<Vec<f64>>, Refusal> {
        let wiring = self.wiring;
        let shapes = self.shapes(probe);
        shapes.value(&layer.softmax_input);
        shapes.forget_long_lists();
        let mut evaluation = Evaluation::with_shapes_of(wiring, shapes);
        probe.set_inputs(wiring, &mut evaluation);
        let count = probe.tokens * probe.total();
        evaluation.set(&layer.scores, Tensor::real(&[1, 1, probe.tokens, probe.total()], vec![score; count]));
        let tensor = evaluation.value(&layer.softmax_input);
        let numbers = tensor.as_ref().and_then(|tensor| tensor.numbers());
        let numbers = numbers.ok_or_else(|| unknown(&layer.number, &evaluation, &layer.softmax_input))?;
        let added: Vec<_> = numbers.chunks(count).map(<[f64]>::to_vec).collect();
        match added.iter().all(|head| head.len() == count) {
            true => Ok(added),
            false => Err(self.not_attention(layer, &layer.softmax_input)),
        }
    }

    /// How far back a layer looks, from a pass over the last position that there can be.
    fn window(&mut self, layer: &Layer) -> Result<Option<usize>, Refusal> {
        let rows = self.rows;
        let added = self.added(layer, Probe::last(rows))?;
        let attended = added[0].iter().rev().take_while(|&&number| number == 0.0).count();
        let window = (attended < rows).then_some(attended);
        if added[0].iter().take(rows - attended).any(|&number| !is_masked(number)) {
            return Err(self.bias(layer, &added));
        }
        let mut probes = vec![SMALL, Probe { past: 0, tokens: 5 }];
        // Tokens on both sides of the first that loses sight of another.
        probes.extend(window.map(|window| Probe { past: window.saturating_sub(2), tokens: 5 }));
        for probe in probes.into_iter().filter(|probe| probe.total() <= rows) {
            let added = self.added(layer, probe)?;
            let is_right = |head: &Vec<f64>| {
                head.iter().enumerate().all(|(index, &number)| {
                    let (token, place) = (index / probe.total(), index % probe.total());
                    let here = probe.past + token;
                    let is_seen = place <= here && window.is_none_or(|window| place + window > here);
                    if is_seen { number == 0.0 } else { is_masked(number) }
                })
            };
            if !added.iter().all(is_right) {
                return Err(self.bias(layer, &added));
            }
        }
        Ok(window)
    }

    fn bias(&self, layer: &Layer, added: &[Vec<f64>]) -> Refusal {
        let node = self.maker(&layer.softmax_input);
        let layer = layer.number.clone();
        let grows = |head: &Vec<f64>| {
            // One row is enough: every token's distances grow alike.
            let seen: Vec<f64> = head.iter().copied().take_while(|&number| number > MASKED).take(3).collect();
            match *seen.as_slice() {
                [first, second, third] => {
                    second != first && ((third - second) - (second - first)).abs() <= TOLERANCE
                }
                _ => false,
            }
        };
        match added.iter().any(grows) {
            true => Refusal::Alibi { layer, node },
            false => Refusal::AttentionBias { layer, node },
        }
    }

    /// Computes a layer twice, as the graph does and as the kernel would. Returns what scores are multiplied
    /// with.
    fn compare(
        &mut self,
        layer: &Layer,
        proven: &Proven,
        rotation: Option<&Rotation>,
        probe: Probe,
    ) -> Result<f64, Refusal> {
        let (tokens, total) = (probe.tokens, probe.total());
        let wiring = self.wiring;
        let shapes = self.shapes(probe);
        shapes.value(&layer.output);
        shapes.forget_long_lists();
        let mut evaluation = Evaluation::with_shapes_of(wiring, shapes);
        probe.set_inputs(wiring, &mut evaluation);
        set_states(layer, proven, probe, &mut evaluation);
        let mut read =
            |name: &str| evaluation.numbers(name).ok_or_else(|| unknown(&layer.number, &evaluation, name));
        let expected = Reference::new(layer, proven, rotation, probe);
        let differs = |name: &str| {
            let output = name.to_owned();
            Refusal::OtherNumbers { layer: layer.number.clone(), output }
        };
        let agree = |found: &[f64], expected: &[f64]| {
            let near = |(found, expected): (&f64, &f64)| (found - expected).abs() <= TOLERANCE;
            found.len() == expected.len() && found.iter().zip(expected).all(near)
        };
        for (name, expected) in
            [(&layer.present_key, &expected.keys), (&layer.present_value, &expected.values)]
        {
            if !agree(&read(name)?, expected) {
                return Err(differs(name));
            }
        }
        let scores = read(&layer.softmax_input)?;
        if scores.len() != proven.heads * tokens * total {
            return Err(differs(&layer.softmax_input));
        }
        let products = expected.products();
        let scale = expected.scale(&scores, &products).ok_or_else(|| differs(&layer.softmax_input))?;
        let expected = expected.output(&products, scale, proven.window);
        if !agree(&read(&layer.output)?, &expected) {
            return Err(differs(&layer.output));
        }
        let shape = evaluation.value(&layer.output).map(|tensor| tensor.shape().to_vec());
        if shape.as_deref() != Some(&[1, tokens, proven.heads * layer.head_size]) {
            return Err(differs(&layer.output));
        }
        Ok(scale)
    }
}

/// Sets the past and what the kernel takes to numbers of their names.
fn set_states(layer: &Layer, proven: &Proven, probe: Probe, evaluation: &mut Evaluation<'_, '_>) {
    let past = [1, layer.kv_heads, probe.past, layer.head_size];
    for name in [&layer.past_key, &layer.past_value] {
        evaluation.set(name, Tensor::real(&past, numbers_of(name, past.iter().product())));
    }
    for source in [&proven.query, &proven.key, &proven.value] {
        let width = source.heads * layer.head_size;
        let numbers = numbers_of(&source.name, probe.tokens * width);
        let shape: &[usize] = match source.form {
            Form::Rows => &[1, probe.tokens, width],
            Form::Heads { .. } => &[1, probe.tokens, source.heads, layer.head_size],
        };
        evaluation.set(&source.name, Tensor::real(shape, numbers));
    }
}

/// Attention over the numbers of a probe, as the kernel defines it.
struct Reference {
    probe: Probe,
    heads: usize,
    group: usize,
    size: usize,
    /// `[heads, tokens, head size]`, rotated.
    queries: Vec<f64>,
    /// `[kv heads, total, head size]`, rotated.
    keys: Vec<f64>,
    /// `[kv heads, total, head size]`
    values: Vec<f64>,
}

impl Reference {
    fn new(layer: &Layer, proven: &Proven, rotation: Option<&Rotation>, probe: Probe) -> Self {
        let size = layer.head_size;
        // Numbers of `[tokens, heads, head size]` by head and token.
        let drawn = |source: &Source| numbers_of(&source.name, probe.tokens * source.heads * size);
        let head_of = |numbers: &[f64], source: &Source, head: usize, token: usize| {
            numbers[(token * source.heads + head) * size..][..size].to_vec()
        };
        let turned = |numbers: &[f64], source: &Source, head: usize, token: usize| {
            let head = head_of(numbers, source, head, token);
            rotation.map_or(head.clone(), |rotation| rotation.turned(&head, probe.past + token))
        };
        let drawn_queries = drawn(&proven.query);
        let mut queries = Vec::new();
        for head in 0..proven.heads {
            for token in 0..probe.tokens {
                queries.extend(turned(&drawn_queries, &proven.query, head, token));
            }
        }
        let (drawn_keys, drawn_values) = (drawn(&proven.key), drawn(&proven.value));
        let length = probe.past * size;
        let past_keys = numbers_of(&layer.past_key, layer.kv_heads * length);
        let past_values = numbers_of(&layer.past_value, layer.kv_heads * length);
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for head in 0..layer.kv_heads {
            keys.extend_from_slice(&past_keys[head * length..][..length]);
            values.extend_from_slice(&past_values[head * length..][..length]);
            for token in 0..probe.tokens {
                keys.extend(turned(&drawn_keys, &proven.key, head, token));
                values.extend(head_of(&drawn_values, &proven.value, head, token));
            }
        }
        Self { probe, heads: proven.heads, group: proven.heads / layer.kv_heads, size, queries, keys, values }
    }

    /// Queries times keys, `[heads, tokens, total]`.
    fn products(&self) -> Vec<f64> {
        let (size, total) = (self.size, self.probe.total());
        let mut products = Vec::new();
        for head in 0..self.heads {
            for token in 0..self.probe.tokens {
                let query = &self.queries[(head * self.probe.tokens + token) * size..][..size];
                for place in 0..total {
                    let key = &self.keys[(head / self.group * total + place) * size..][..size];
                    products.push(query.iter().zip(key).map(|(query, key)| query * key).sum());
                }
            }
        }
        products
    }

    /// The one factor between products and the scores that count; `None` where there is none.
    fn scale(&self, scores: &[f64], products: &[f64]) -> Option<f64> {
        let counts = scores.iter().zip(products).filter(|(score, _)| **score > MASKED);
        let largest = counts.clone().max_by(|left, right| left.1.abs().total_cmp(&right.1.abs()))?;
        let scale = largest.0 / largest.1;
        let is_even = counts.clone().all(|(score, product)| (score - product * scale).abs() <= TOLERANCE);
        // The kernel takes 32 bits of it.
        (is_even && scale.is_finite() && scale > 0.0).then_some(f64::from(scale as f32))
    }

    /// Weighted values, `[tokens, heads · head size]`.
    fn output(&self, products: &[f64], scale: f64, window: Option<usize>) -> Vec<f64> {
        let (size, total) = (self.size, self.probe.total());
        let mut output = vec![0.0; self.probe.tokens * self.heads * size];
        for head in 0..self.heads {
            for token in 0..self.probe.tokens {
                let here = self.probe.past + token;
                let first = window.map_or(0, |window| (here + 1).saturating_sub(window));
                let row = &products[(head * self.probe.tokens + token) * total..][..total];
                let most =
                    row[first..=here].iter().fold(f64::NEG_INFINITY, |most, score| most.max(score * scale));
                let shares: Vec<f64> =
                    row[first..=here].iter().map(|score| (score * scale - most).exp()).collect();
                let sum: f64 = shares.iter().sum();
                let target = &mut output[(token * self.heads + head) * size..][..size];
                for (place, share) in (first..).zip(shares) {
                    let value = &self.values[(head / self.group * total + place) * size..][..size];
                    target.iter_mut().zip(value).for_each(|(target, value)| *target += share / sum * value);
                }
            }
        }
        output
    }
}
