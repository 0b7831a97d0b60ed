//! Puts one GroupQueryAttention in the place of each layer's attention.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::layer::{Layer, shown};
use super::probe::{Form, Source};
use super::{Examined, Plan, Refusal};
use crate::proto::tensor_shape_proto::{Dimension, dimension};
use crate::proto::{
    NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, data_type, type_proto,
};
use crate::rewrite::build;
use crate::rewrite::wiring::{Wiring, reads, sweep};
use crate::{Graph, Part};

const MASK: &str = "attention_mask";
/// The names of everything new begin with it.
const PREFIX: &str = "hearth/attention/";
/// The last place of each sequence, i32 `[batch]`.
const LAST: &str = "hearth/attention/last";
/// The rows of past and new tokens, an i32 scalar.
const TOTAL: &str = "hearth/attention/total";

/// The new graph, and the inputs that it lost.
pub(super) fn replace(mut graph: Graph, plan: &Plan) -> Result<(Graph, Vec<String>), Refusal> {
    let layers = plan.layers.as_slice();
    let wiring = Wiring::new(&graph);
    let taken = graph.nodes.iter().flat_map(|node| &node.output).find(|name| name.starts_with(PREFIX));
    let taken = taken.or_else(|| {
        graph
            .initializers
            .iter()
            .find_map(|tensor| tensor.name.as_ref().filter(|name| name.starts_with(PREFIX)))
    });
    if let Some(name) = taken {
        return Err(Refusal::NameTaken { name: name.clone() });
    }
    let has_mask = wiring.input(MASK).is_some();
    let mask = if has_mask { MASK.to_owned() } else { format!("{PREFIX}mask") };
    // Where each layer's new nodes stand: all that they read was made before.
    let mut places: HashMap<usize, Vec<NodeProto>> = HashMap::new();
    let mut gone: HashSet<usize> = HashSet::new();
    for examined in layers {
        let layer = &examined.layer;
        for value in [&layer.present_key, &layer.present_value, &layer.output] {
            gone.extend(wiring.maker(value));
        }
        let place = wiring.maker(&layer.output).unwrap_or(graph.nodes.len());
        places.entry(place).or_default().extend(attention(examined));
    }
    let nodes = std::mem::take(&mut graph.nodes);
    graph.nodes.extend(mask_nodes(&graph, &mask).into_iter().map(Part::new));
    for (index, node) in nodes.into_iter().enumerate() {
        graph.nodes.extend(places.remove(&index).into_iter().flatten().map(Part::new));
        if !gone.contains(&index) {
            graph.nodes.push(node);
        }
    }
    split_by_constants(&mut graph, layers);
    graph.initializers.extend(tensors(&graph, plan).into_iter().map(Part::new));
    if !has_mask {
        graph.inputs.push(Part::new(mask_input(&mask)));
    }
    present_shapes(&mut graph, layers);
    let swept = sweep(&mut graph);
    check_readers(&graph, layers)?;
    if !has_mask {
        name_mask(&mut graph, &mask)?;
    }
    build::import_own_operators(&mut graph);
    Ok((graph, swept.inputs))
}

/// The new nodes of one layer.
fn attention(examined: &Examined) -> Vec<NodeProto> {
    let Examined { layer, proven, rotation } = examined;
    let mut nodes = Vec::new();
    let mut taken = |source: &Source, side: &str| {
        if let Form::Rows = source.form {
            return source.name.clone();
        }
        let flat = format!("{PREFIX}{}/{side}", layer.number);
        let inputs = [source.name.as_str(), &joined_shape(source, layer)];
        nodes.push(build::node("Reshape", &flat, &inputs, &[&flat], Vec::new()));
        flat
    };
    let (query, key) = (taken(&proven.query, "query"), taken(&proven.key, "key"));
    let value = taken(&proven.value, "value");
    let tables = rotation.map(table_names);
    let mut inputs = vec![query.as_str(), &key, &value, &layer.past_key, &layer.past_value, LAST, TOTAL];
    if let Some((cosines, sines)) = &tables {
        inputs.extend([cosines.as_str(), sines]);
    }
    let outputs = [layer.output.as_str(), &layer.present_key, &layer.present_value];
    let window = proven.window.map_or(-1, |window| window as i64);
    let attributes = vec![
        build::int("num_heads", proven.heads as i64),
        build::int("kv_num_heads", layer.kv_heads as i64),
        build::float("scale", proven.scale as f32),
        build::int("do_rotary", i64::from(tables.is_some())),
        build::int("local_window_size", window),
    ];
    let name = format!("{PREFIX}{}", layer.number);
    let mut node = build::node("GroupQueryAttention", &name, &inputs, &outputs, attributes);
    node.domain = Some("com.microsoft".to_owned());
    nodes.push(node);
    nodes
}

/// The name of the shape of rows that heads are joined to.
fn joined_shape(source: &Source, layer: &Layer) -> String {
    format!("{PREFIX}rows_of_{}", source.heads * layer.head_size)
}

/// The name of the shape of rows that are split into heads.
fn split_shape(source: &Source, layer: &Layer) -> String {
    format!("{PREFIX}heads_of_{}/{}", layer.head_size, source.heads)
}

/// Splits rows by a constant shape where the graph computes one of its inputs.
fn split_by_constants(graph: &mut Graph, layers: &[Examined]) {
    let mut shapes = HashMap::new();
    for Examined { layer, proven, .. } in layers {
        for source in [&proven.query, &proven.key, &proven.value] {
            if let Form::Heads { split: Some(split) } = &source.form {
                shapes.insert(split.as_str(), split_shape(source, layer));
            }
        }
    }
    for node in &mut graph.nodes {
        if let Some(shape) = node.output.first().and_then(|name| shapes.remove(name.as_str())) {
            let node = node.edit();
            node.input = vec![node.input[0].clone(), shape];
            // Zeros of the new shape stand for what they find.
            node.attribute.retain(|given| given.name() != "allowzero");
        }
    }
}

fn table_names(rotation: usize) -> (String, String) {
    (format!("{PREFIX}cosines/{rotation}"), format!("{PREFIX}sines/{rotation}"))
}

/// The lengths that the kernel takes, of the mask.
fn mask_nodes(graph: &Graph, mask: &str) -> Vec<NodeProto> {
    let name = |name: &str| format!("{PREFIX}{name}");
    let (sum, last, shape, rows) = (name("sum"), name("sum_less_one"), name("mask_shape"), name("rows"));
    let (axis, one) = (name("axis"), name("one"));
    let to = || vec![build::int("to", i64::from(data_type::INT32))];
    // Axes became an input with set 13.
    let is_new = graph.operator_set("").is_none_or(|version| version >= 13);
    let (inputs, mut attributes) =
        if is_new { (vec![mask, &axis], vec![]) } else { (vec![mask], vec![build::ints("axes", &[1])]) };
    attributes.push(build::int("keepdims", 0));
    vec![
        build::node("ReduceSum", &sum, &inputs, &[&sum], attributes),
        build::node("Sub", &last, &[&sum, &one], &[&last], Vec::new()),
        build::node("Cast", LAST, &[&last], &[LAST], to()),
        build::node("Shape", &shape, &[mask], &[&shape], Vec::new()),
        build::node("Gather", &rows, &[&shape, &one], &[&rows], vec![build::int("axis", 0)]),
        build::node("Cast", TOTAL, &[&rows], &[TOTAL], to()),
    ]
}

/// Everything constant that the new nodes read.
fn tensors(graph: &Graph, plan: &Plan) -> Vec<TensorProto> {
    let name = |name: &str| format!("{PREFIX}{name}");
    let mut tensors = vec![build::whole(&name("one"), &[], &[1])];
    if graph.operator_set("").is_none_or(|version| version >= 13) {
        tensors.push(build::whole(&name("axis"), &[1], &[1]));
    }
    let mut shapes = BTreeMap::new();
    for Examined { layer, proven, .. } in &plan.layers {
        for source in [&proven.query, &proven.key, &proven.value] {
            if let Form::Heads { .. } = source.form {
                // The first two dimensions stay what they are.
                let (heads, size) = (source.heads as i64, layer.head_size as i64);
                shapes.insert(joined_shape(source, layer), vec![0, 0, heads * size]);
                shapes.insert(split_shape(source, layer), vec![0, 0, heads, size]);
            }
        }
    }
    tensors.extend(shapes.iter().map(|(name, sizes)| build::whole(name, &[sizes.len() as i64], sizes)));
    for (place, rotation) in plan.rotations.iter().enumerate() {
        let (cosines, sines) = table_names(place);
        let dims = [plan.rows as i64, rotation.pairs() as i64];
        let (cosine_bytes, sine_bytes) = rotation.tables(plan.rows);
        tensors.push(build::real(&cosines, &dims, cosine_bytes));
        tensors.push(build::real(&sines, &dims, sine_bytes));
    }
    tensors
}

fn symbol(name: &str) -> Dimension {
    Dimension { value: Some(dimension::Value::DimParam(name.to_owned())), ..Default::default() }
}

fn mask_input(name: &str) -> ValueInfoProto {
    let dim = vec![symbol("batch_size"), symbol("total_sequence_length")];
    let tensor = type_proto::Tensor {
        elem_type: Some(data_type::INT64),
        shape: Some(TensorShapeProto { dim, ..Default::default() }),
        ..Default::default()
    };
    let described = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(described), ..Default::default() }
}

/// Presents have heads and head size as numbers, and as many rows as their buffer.
fn present_shapes(graph: &mut Graph, layers: &[Examined]) {
    let sizes: HashMap<&str, (usize, usize)> = layers
        .iter()
        .map(|examined| &examined.layer)
        .flat_map(|layer| {
            let sizes = (layer.kv_heads, layer.head_size);
            [(layer.present_key.as_str(), sizes), (layer.present_value.as_str(), sizes)]
        })
        .collect();
    for output in &mut graph.outputs {
        let Some(&(heads, size)) = sizes.get(output.name()) else { continue };
        let Some(type_proto::Value::TensorType(tensor)) =
            output.edit().r#type.as_mut().and_then(|described| described.value.as_mut())
        else {
            continue;
        };
        let number = |size: usize| Dimension {
            value: Some(dimension::Value::DimValue(size as i64)),
            ..Default::default()
        };
        let batch = tensor.shape.as_ref().and_then(|shape| shape.dim.first().cloned());
        let batch = batch.unwrap_or_else(|| symbol("batch_size"));
        let dim = vec![batch, number(heads), symbol("total_sequence_length"), number(size)];
        tensor.shape = Some(TensorShapeProto { dim, ..Default::default() });
    }
}

/// A buffer has more rows than tokens, so nothing but the kernel may read what lies in it.
fn check_readers(graph: &Graph, layers: &[Examined]) -> Result<(), Refusal> {
    let mut owners = HashMap::new();
    for Examined { layer, .. } in layers {
        for value in [&layer.past_key, &layer.past_value, &layer.present_key, &layer.present_value] {
            owners.insert(value.as_str(), layer);
        }
    }
    for node in &graph.nodes {
        if node.op_type() == "GroupQueryAttention" {
            continue;
        }
        if let Some((value, layer)) = reads(node).find_map(|name| owners.get_key_value(name.as_str())) {
            let (value, layer) = ((*value).to_owned(), layer.number.clone());
            return Err(Refusal::ReadElsewhere { layer, value, node: shown(node) });
        }
    }
    Ok(())
}

/// Gives a new mask input its name, which an inner value may have had.
fn name_mask(graph: &mut Graph, mask: &str) -> Result<(), Refusal> {
    let is_taken = Wiring::new(graph).has(MASK);
    if is_taken {
        return Err(Refusal::NameTaken { name: MASK.to_owned() });
    }
    for input in graph.inputs.iter_mut().filter(|input| input.name() == mask) {
        input.edit().name = Some(MASK.to_owned());
    }
    for node in &mut graph.nodes {
        if node.input.iter().any(|name| name == mask) {
            for name in node.edit().input.iter_mut().filter(|name| *name == mask) {
                *name = MASK.to_owned();
            }
        }
    }
    Ok(())
}
