//! Fuses attention that was exported in plain operators into GroupQueryAttention, whose keys and values
//! need no copy: twice as fast at once, four times at 2,000 tokens.
//!
//! Exporters write the same attention in many ways, so little is recognised and much is asked: [`layer`]
//! finds where each layer's attention begins and ends, [`probe`] and [`rotation`] compute it for a few
//! tokens and compare it with what the kernel would make of them, at the first positions and at the last.
//! What differs is refused by name. Then [`replace`] puts one node in the place of each.
//!
//! A mask with gaps means something else to the kernel than to the graph: it takes the number of ones for
//! the number of tokens. The engine feeds ones only.

mod layer;
mod probe;
mod refusal;
mod replace;
mod rotation;

pub use refusal::Refusal;

use super::Rewritten;
use super::wiring::{Wiring, dimensions};
use crate::Graph;
use layer::{Found, Layer};
use probe::{Examination, Proven};
use rotation::Rotation;

/// What a model's configuration says of its attention; what it does not say is not compared.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelShape {
    pub heads: Option<usize>,
    pub kv_heads: Option<usize>,
    pub head_size: Option<usize>,
    /// The base of the rotation, where its angles are not scaled.
    pub rope_theta: Option<f64>,
    /// The share of a head that is rotated.
    pub partial_rotary_factor: Option<f64>,
    /// How many tokens some layers attend to, where the model makes use of it.
    pub sliding_window: Option<usize>,
    /// The bound of the scores, where there is one.
    pub softcap: Option<f64>,
    /// The positions that the model was made for.
    pub max_positions: Option<usize>,
}

/// What became of the graph.
#[derive(Debug, Clone, PartialEq)]
pub enum AttentionReport {
    Replaced(Replaced),
    /// Every layer attends by GroupQueryAttention as it is.
    AlreadyFused,
    Refused(Refusal),
}

/// A graph of which every layer was replaced.
#[derive(Debug, Clone, PartialEq)]
pub struct Replaced {
    pub layers: Vec<LayerReport>,
    /// The positions that the new graph knows.
    pub rows: usize,
    /// Nodes before and after.
    pub nodes: (usize, usize),
    /// The inputs that nothing reads any more.
    pub removed_inputs: Vec<String>,
}

/// The new attention of one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerReport {
    /// As the graph numbers it.
    pub layer: String,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_size: usize,
    pub scale: f64,
    /// How many tokens it attends to, where that is not all.
    pub window: Option<usize>,
}

/// A layer with all that was asked of it.
struct Examined {
    layer: Layer,
    proven: Proven,
    /// Its rotation, by the place in the list of all. Some models have layers without.
    rotation: Option<usize>,
}

/// What is to be put in the place of what.
struct Plan {
    layers: Vec<Examined>,
    rotations: Vec<Rotation>,
    /// The positions that there can be.
    rows: usize,
}

/// Replaces the attention of every layer, or of none. The new graph has rotations for `rows` positions, or
/// for as many as the model was made for.
pub fn run(graph: Graph, shape: &ModelShape, rows: usize) -> Rewritten<AttentionReport> {
    let rows = shape.max_positions.map_or(rows, |most| rows.min(most)).max(LEAST_ROWS);
    let refused = |graph, refusal| Rewritten { graph, report: AttentionReport::Refused(refusal) };
    let plan = match examine(&graph, shape, rows) {
        Ok(Some(plan)) => plan,
        Ok(None) => return Rewritten { graph, report: AttentionReport::AlreadyFused },
        Err(refusal) => return refused(graph, refusal),
    };
    // What else reads a layer's values shows only when the rest is gone.
    match replace::replace(graph.clone(), &plan) {
        Ok((replaced, removed_inputs)) => {
            let nodes = (graph.nodes.len(), replaced.nodes.len());
            let layers = plan.layers.iter().map(report).collect();
            let replacement = Replaced { layers, rows, nodes, removed_inputs };
            Rewritten { graph: replaced, report: AttentionReport::Replaced(replacement) }
        }
        Err(refusal) => refused(graph, refusal),
    }
}

/// Enough for every question that is asked.
const LEAST_ROWS: usize = 16;

/// The bytes of the cosines and sines of all rotations. A graph brings them in its own file.
const MOST_TABLES: usize = 256 << 20;

fn report(examined: &Examined) -> LayerReport {
    let (layer, proven) = (&examined.layer, &examined.proven);
    LayerReport {
        layer: layer.number.clone(),
        heads: proven.heads,
        kv_heads: layer.kv_heads,
        head_size: layer.head_size,
        scale: proven.scale,
        window: proven.window,
    }
}

/// Finds and asks every layer; `None` where there is nothing to replace.
fn examine(graph: &Graph, shape: &ModelShape, rows: usize) -> Result<Option<Plan>, Refusal> {
    let wiring = Wiring::new(graph);
    let layers = match layer::find(&wiring)? {
        Found::AlreadyFused => return Ok(None),
        Found::Layers(layers) => layers,
    };
    single_positions(&wiring)?;
    let mut examination = Examination::new(&wiring, rows);
    let mut rotations: Vec<Rotation> = Vec::new();
    let mut examined = Vec::new();
    for layer in layers {
        let heads = examination.heads(&layer)?;
        let rotation = rotation_of(&wiring, &layer, heads, rows, &mut rotations)?;
        let proven = examination.prove(&layer, heads, rotation.map(|place| &rotations[place]))?;
        examined.push(Examined { layer, proven, rotation });
    }
    // Without any rotation, nothing in the new graph would know how long it may become.
    if let ([], Some(Examined { layer, .. })) = (rotations.as_slice(), examined.first()) {
        return Err(rotation::none(&wiring, &layer.number, &layer.key));
    }
    agrees(shape, &examined, &rotations, rows)?;
    Ok(Some(Plan { layers: examined, rotations, rows }))
}

fn single_positions(wiring: &Wiring<'_>) -> Result<(), Refusal> {
    let Some(input) = wiring.input("position_ids") else { return Ok(()) };
    match dimensions(input.r#type.as_ref()).as_deref() {
        Some([None | Some(1), _]) | None => Ok(()),
        Some(_) => Err(Refusal::SeveralPositions { input: input.name().to_owned() }),
    }
}

/// The place of a layer's rotation in the list, to which a new one is added; `None` for layers without.
fn rotation_of(
    wiring: &Wiring<'_>,
    layer: &Layer,
    heads: usize,
    rows: usize,
    rotations: &mut Vec<Rotation>,
) -> Result<Option<usize>, Refusal> {
    match (layer.key.is_rotated(), layer.query.is_rotated()) {
        (true, true) => {}
        (false, false) => return Ok(None),
        (is_key, _) => {
            let side = if is_key { &layer.query } else { &layer.key };
            return Err(rotation::none(wiring, &layer.number, side));
        }
    }
    let key = (layer.kv_heads, layer.head_size);
    let query = (heads, layer.head_size);
    for (place, rotation) in rotations.iter().enumerate().rev() {
        if rotation.holds_for(wiring, &layer.number, &layer.key, key, rows)?
            && rotation.holds_for(wiring, &layer.number, &layer.query, query, rows)?
        {
            return Ok(Some(place));
        }
    }
    let rotation = Rotation::read(wiring, &layer.number, &layer.key, key, rows)?;
    if !rotation.holds_for(wiring, &layer.number, &layer.query, query, rows)? {
        // Whatever is wrong with the queries has a better name than that they differ.
        Rotation::read(wiring, &layer.number, &layer.query, query, rows)?;
        let output = layer.query.rotated.clone();
        return Err(Refusal::OtherNumbers { layer: layer.number.clone(), output });
    }
    let pairs = rotations.iter().map(Rotation::pairs).sum::<usize>() + rotation.pairs();
    let bytes = rows.saturating_mul(pairs).saturating_mul(2 * size_of::<f32>());
    if bytes > MOST_TABLES {
        let layer = layer.number.clone();
        return Err(Refusal::TooManyRotations { layer, bytes, limit: MOST_TABLES });
    }
    rotations.push(rotation);
    Ok(Some(rotations.len() - 1))
}

/// Compares the graph with the model's configuration.
fn agrees(
    shape: &ModelShape,
    examined: &[Examined],
    rotations: &[Rotation],
    rows: usize,
) -> Result<(), Refusal> {
    let differ =
        |what, configured: String, found: String| Err(Refusal::Disagreement { what, configured, found });
    for Examined { layer, proven, .. } in examined {
        let sizes = [
            ("heads", shape.heads, proven.heads),
            ("key heads", shape.kv_heads, layer.kv_heads),
            ("a head size of", shape.head_size, layer.head_size),
        ];
        for (what, configured, found) in sizes {
            if let Some(configured) = configured.filter(|&configured| configured != found) {
                return differ(what, configured.to_string(), found.to_string());
            }
        }
        if let Some((configured, found)) = shape.sliding_window.zip(proven.window)
            && configured != found
        {
            return differ("a window of", configured.to_string(), found.to_string());
        }
    }
    if let Some(configured) = shape.sliding_window.filter(|&window| window < rows)
        && examined.iter().all(|examined| examined.proven.window.is_none())
    {
        return differ("a window of", configured.to_string(), "has none".to_owned());
    }
    if let Some(factor) = shape.partial_rotary_factor.filter(|&factor| factor != 1.0) {
        return differ("a rotated share of", factor.to_string(), "rotates all".to_owned());
    }
    if let Some(cap) = shape.softcap.filter(|&cap| cap != 0.0) {
        return differ("a cap of", cap.to_string(), "has none".to_owned());
    }
    // Layers with a window may have a rotation of their own.
    match shape.rope_theta {
        Some(theta) if !rotations.iter().any(|rotation| rotation.has_base(theta)) => {
            let found = rotations.first().map_or_else(String::new, |rotation| rotation.base().to_string());
            differ("a rotation to the base of", theta.to_string(), found)
        }
        _ => Ok(()),
    }
}
