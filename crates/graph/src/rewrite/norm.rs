//! Makes one node of each RMS norm, and of the residual sum before it.
//!
//! ONNX Runtime fuses some of the forms in which exports spell the norm while it loads, but never the sum
//! with it. The fused node gives the sum away too, so the residual goes on from there.

use std::collections::{HashMap, HashSet};

use super::rows::Rows;
use super::wiring::{Wiring, sweep};
use super::{NORM, Rewritten, SUM_NORM, build, integer, is_operator};
use crate::proto::{NodeProto, data_type};
use crate::{Graph, Part};

/// Every RMS norm of the graph with what became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NormReport {
    /// By the name of the node that ends the norm.
    pub norms: Vec<(String, Outcome)>,
}

/// What became of one norm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The norm is one node, with the sum before it.
    WithSum,
    /// The norm is one node; what it reads is no sum, or one that cannot become part of it.
    Alone(Option<Apart>),
    Refused(Refusal),
}

/// Why a sum stays apart from its norm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Apart {
    #[error("its sum `{0}` adds values that are not both known to be rows of f32 as wide as the norm")]
    OtherShapes(String),
}

/// Why a norm stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it is not computed in f32")]
    NotF32,
    #[error("its inner value `{0}` is read elsewhere")]
    ReadElsewhere(String),
}

impl NormReport {
    /// Whether the graph is another now.
    pub fn changed(&self) -> bool {
        self.norms.iter().any(|(_, outcome)| !matches!(outcome, Outcome::Refused(_)))
    }

    /// The number of norms that took the sum before them in.
    pub fn with_sum(&self) -> usize {
        self.norms.iter().filter(|(_, outcome)| *outcome == Outcome::WithSum).count()
    }
}

impl std::fmt::Display for NormReport {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.norms.is_empty() {
            return write!(formatter, "no RMS norm is spelt out");
        }
        let alone = self.norms.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Alone(_))).count();
        let (with_sum, all) = (self.with_sum(), self.norms.len());
        write!(formatter, "{with_sum} of {all} norms fused with the sum before them, {alone} without")?;
        self.norms
            .iter()
            .find_map(|(norm, outcome)| match outcome {
                Outcome::Refused(refusal) => Some(write!(formatter, "; `{norm}` refused: {refusal}")),
                _ => None,
            })
            .unwrap_or(Ok(()))
    }
}

/// Fuses every norm that it knows.
pub fn run(mut graph: Graph) -> Rewritten<NormReport> {
    let mut report = NormReport::default();
    let edits = find(&graph, &mut report);
    if report.changed() {
        edits.apply(&mut graph);
        sweep(&mut graph);
    }
    Rewritten { graph, report }
}

fn find(graph: &Graph, report: &mut NormReport) -> Edits {
    let wiring = Wiring::new(graph);
    let mut edits = Edits::default();
    // Makers come before readers: what is known of a residual follows from the sum before it.
    let mut rows = Rows::new(&wiring);
    for (end, node) in graph.nodes.iter().enumerate() {
        let Some(norm) = Norm::ending_at(&wiring, end) else { continue };
        let sum = norm.sum(&wiring, &edits);
        let is_alone = node.op_type() == NORM;
        if is_alone && sum.is_none() {
            continue;
        }
        let outcome = match norm.check(&wiring, &mut rows) {
            Err(refusal) => Outcome::Refused(refusal),
            Ok(()) => match sum {
                None => Outcome::Alone(None),
                Some(sum) => {
                    let name = &graph.nodes[sum].output[0];
                    let fits = graph.nodes[sum].input.iter().all(|term| rows.are(term, norm.width));
                    if fits {
                        Outcome::WithSum
                    } else {
                        Outcome::Alone(Some(Apart::OtherShapes(name.clone())))
                    }
                }
            },
        };
        match (&outcome, sum) {
            (Outcome::WithSum, Some(sum)) => edits.fuse_with_sum(graph, &norm, sum),
            // As it is, already.
            (Outcome::Alone(_) | Outcome::Refused(_), _) if is_alone => continue,
            (Outcome::Alone(_), _) => edits.fuse(graph, &norm),
            _ => {}
        }
        report.norms.push((node.name().to_owned(), outcome));
    }
    edits
}

/// One RMS norm.
struct Norm {
    /// The node whose output is the norm's.
    end: usize,
    /// What is normed.
    input: String,
    weight: String,
    width: i64,
    epsilon: f32,
    /// The values between input and output, which nobody else may read.
    inner: Vec<String>,
    /// The nodes that make them.
    nodes: Vec<usize>,
    /// The number of the type that the weighted value is cast to, where it is.
    cast: Option<i64>,
}

impl Norm {
    /// The norm whose last node is at `end`.
    fn ending_at(wiring: &Wiring<'_>, end: usize) -> Option<Self> {
        let node = wiring.node(end);
        if node.output.len() != 1 {
            return None;
        }
        if is_operator(node, "", NORM) {
            return Self::fused(wiring, end);
        }
        if !is_operator(node, "", "Mul") {
            return None;
        }
        let [left, right] = node.input.as_slice() else { return None };
        // One side is the weight, the other what it weighs.
        Self::weighing(wiring, end, left, right).or_else(|| Self::weighing(wiring, end, right, left))
    }

    fn fused(wiring: &Wiring<'_>, end: usize) -> Option<Self> {
        let node = wiring.node(end);
        let [input, weight] = node.input.as_slice() else { return None };
        let given = |name: &str| node.attribute.iter().find(|given| given.name() == name);
        let is_last = given("axis").is_some_and(|axis| axis.i() == -1);
        if !is_last {
            return None;
        }
        let (weight, width) = row(wiring, weight)?;
        let epsilon = given("epsilon").map_or(1e-5, |epsilon| epsilon.f());
        let (input, inner, nodes) = (input.clone(), Vec::new(), Vec::new());
        Some(Self { end, input, weight, width, epsilon, inner, nodes, cast: None })
    }

    fn weighing(wiring: &Wiring<'_>, end: usize, weight: &str, value: &str) -> Option<Self> {
        let (weight, width) = row(wiring, weight)?;
        let mut path = Path { wiring, inner: Vec::new(), nodes: vec![end] };
        let mut value = value;
        let mut cast = None;
        if let Some(node) = wiring.made_by(value, "Cast") {
            cast = integer(node, "to");
            value = &path.step(value, "Cast")?.input[0];
        }
        let (input, root) = match wiring.made_by(value, "Mul") {
            Some(_) => path.times_reciprocal(value)?,
            None => {
                let node = path.step(value, "Div")?;
                (node.input[0].as_str(), node.input.get(1)?.as_str())
            }
        };
        let epsilon = path.root_of_mean(root, input)?;
        let Path { inner, nodes, .. } = path;
        Some(Self { end, input: input.to_owned(), weight, width, epsilon, inner, nodes, cast })
    }

    /// The Add that makes what is normed, through a cast that changes nothing.
    fn sum(&self, wiring: &Wiring<'_>, edits: &Edits) -> Option<usize> {
        let mut name = self.input.as_str();
        if let Some(cast) = wiring.made_by(name, "Cast")
            && integer(cast, "to") == Some(i64::from(data_type::FLOAT))
        {
            name = cast.input.first()?;
        }
        let sum = wiring.maker(name)?;
        let node = wiring.node(sum);
        (is_operator(node, "", "Add")
            && node.input.len() == 2
            && node.output.len() == 1
            && !edits.gone.contains(&sum))
        .then_some(sum)
    }

    fn check(&self, wiring: &Wiring<'_>, rows: &mut Rows<'_, '_>) -> Result<(), Refusal> {
        let f32 = i64::from(data_type::FLOAT);
        let is_f32 = match self.cast {
            // The cast back says what comes out; what went in has to be known by itself.
            Some(to) => to == f32 && rows.is_f32(&self.input),
            None => true,
        };
        let weight = wiring.initializer(&self.weight).map_or(0, |tensor| tensor.data_type());
        if !is_f32 || weight != data_type::FLOAT {
            return Err(Refusal::NotF32);
        }
        let inner: HashSet<usize> = self.nodes.iter().copied().collect();
        let is_lost = |name: &&String| {
            wiring.output(name).is_some() || wiring.readers(name).iter().any(|reader| !inner.contains(reader))
        };
        match self.inner.iter().find(is_lost) {
            Some(name) => Err(Refusal::ReadElsewhere(name.clone())),
            None => Ok(()),
        }
    }
}

/// The weight behind `name` with its width, where it is one row that no input may replace.
fn row(wiring: &Wiring<'_>, name: &str) -> Option<(String, i64)> {
    let tensor = wiring.initializer(name).filter(|tensor| wiring.input(tensor.name()).is_none())?;
    match tensor.dims.as_slice() {
        &[width] if width > 1 => Some((tensor.name().to_owned(), width)),
        _ => None,
    }
}

/// A walk back from the end of a norm to its input.
struct Path<'w, 'g> {
    wiring: &'w Wiring<'g>,
    inner: Vec<String>,
    nodes: Vec<usize>,
}

impl<'g> Path<'_, 'g> {
    /// Goes back over the operator that makes `name`.
    fn step(&mut self, name: &str, operator: &str) -> Option<&'g NodeProto> {
        let node = self.wiring.made_by(name, operator)?;
        self.inner.push(name.to_owned());
        self.nodes.push(self.wiring.maker(name)?);
        (!node.input.is_empty()).then_some(node)
    }

    /// `x · (1 / root)` or `x · Reciprocal(root)`: the names of `x` and `root`.
    fn times_reciprocal(&mut self, name: &str) -> Option<(&'g str, &'g str)> {
        let node = self.step(name, "Mul")?;
        let [left, right] = node.input.as_slice() else { return None };
        let is_inverse = |name: &str| {
            ["Div", "Reciprocal"].iter().any(|operator| self.wiring.made_by(name, operator).is_some())
        };
        let (input, inverse) = if is_inverse(right) { (left, right) } else { (right, left) };
        if self.wiring.made_by(inverse, "Reciprocal").is_some() {
            return Some((input, self.step(inverse, "Reciprocal")?.input.first()?));
        }
        let node = self.step(inverse, "Div")?;
        let [one, root] = node.input.as_slice() else { return None };
        (single(self.wiring, one) == Some(1.0)).then_some((input, root))
    }

    /// `Sqrt(mean(input²) + epsilon)`: the epsilon.
    fn root_of_mean(&mut self, name: &str, input: &str) -> Option<f32> {
        let root = self.step(name, "Sqrt")?;
        let [left, right] = self.step(&root.input[0], "Add")?.input.as_slice() else { return None };
        let (mean, epsilon) = match single(self.wiring, right) {
            Some(epsilon) => (left, epsilon),
            None => (right, single(self.wiring, left)?),
        };
        let mean = self.step(mean, "ReduceMean")?;
        let given = |name: &str| mean.attribute.iter().find(|given| given.name() == name);
        let axes = match (given("axes"), mean.input.get(1).filter(|name| !name.is_empty())) {
            (Some(axes), None) => axes.ints.clone(),
            (None, Some(axes)) => self.wiring.whole(axes)?,
            _ => return None,
        };
        if axes != [-1] || given("keepdims").is_some_and(|keep| keep.i() != 1) {
            return None;
        }
        let square = &mean.input[0];
        let squared = match self.wiring.made_by(square, "Mul") {
            Some(_) => self.step(square, "Mul")?.input.as_slice(),
            None => {
                let node = self.step(square, "Pow")?;
                (single(self.wiring, node.input.get(1)?) == Some(2.0)).then_some(&node.input[..1])?
            }
        };
        squared.iter().all(|name| name == input).then_some(epsilon)
    }
}

/// The one number that `name` always is.
fn single(wiring: &Wiring<'_>, name: &str) -> Option<f32> {
    let tensor = wiring.constant(name)?;
    if tensor.data_type() == data_type::FLOAT16 {
        // Norms in f16 are known by these too, if only to refuse them.
        let bits = u16::from_le_bytes(tensor.raw_data.as_deref()?.try_into().ok()?);
        let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f32::from(bits & 0x3ff));
        return Some(match exponent {
            0 => fraction * 2_f32.powi(-24),
            _ => (1024.0 + fraction) * 2_f32.powi(exponent - 25),
        });
    }
    match wiring.numbers(name)?.real().as_slice() {
        [number] => Some(*number as f32),
        _ => None,
    }
}

/// What is to be done to a graph, by the places of its nodes.
#[derive(Default)]
struct Edits {
    /// The node that takes the place of the old one.
    replaced: HashMap<usize, NodeProto>,
    gone: HashSet<usize>,
}

impl Edits {
    fn fuse(&mut self, graph: &Graph, norm: &Norm) {
        let end = &graph.nodes[norm.end];
        let attributes =
            vec![build::float("epsilon", norm.epsilon), build::int("axis", -1), build::int("stash_type", 1)];
        let inputs = [norm.input.as_str(), norm.weight.as_str()];
        self.gone.extend(norm.nodes.iter().copied());
        self.replaced.insert(norm.end, build::node(NORM, end.name(), &inputs, &[&end.output[0]], attributes));
    }

    /// The sum is made where it was, and the norm with it: all that it reads is there already.
    fn fuse_with_sum(&mut self, graph: &Graph, norm: &Norm, sum: usize) {
        let end = &graph.nodes[norm.end];
        let add = &graph.nodes[sum];
        let inputs = [add.input[0].as_str(), add.input[1].as_str(), norm.weight.as_str()];
        let outputs = [end.output[0].as_str(), "", "", add.output[0].as_str()];
        let mut node =
            build::node(SUM_NORM, end.name(), &inputs, &outputs, vec![build::float("epsilon", norm.epsilon)]);
        node.domain = Some("com.microsoft".to_owned());
        self.gone.extend(norm.nodes.iter().copied());
        self.gone.extend([norm.end, sum]);
        self.replaced.insert(sum, node);
    }

    fn apply(mut self, graph: &mut Graph) {
        build::import_own_operators(graph);
        let nodes = std::mem::take(&mut graph.nodes);
        for (place, node) in nodes.into_iter().enumerate() {
            match self.replaced.remove(&place) {
                Some(new) => graph.nodes.push(Part::new(new)),
                None if self.gone.contains(&place) => {}
                None => graph.nodes.push(node),
            }
        }
    }
}
