//! Why a graph keeps its own attention.

/// The first reason found, with the layer as the graph numbers it and the node that shows it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    #[error("it has no layer that joins past keys and values to new ones")]
    NoLayers,
    #[error("its node `{node}` holds graphs of its own")]
    ControlFlow { node: String },
    #[error("its output `{output}` is no key or value of a numbered layer")]
    UnknownState { output: String },
    #[error("layer {layer}: `{output}` is made by `{node}`, not by joining the past to what is new")]
    NotJoined { layer: String, output: String, node: String },
    #[error("layer {layer}: `{input}` is {found}, and the kernel is fast for f32 only")]
    NotSinglePrecision { layer: String, input: String, found: &'static str },
    #[error(
        "layer {layer}: the dimensions of `{input}` are not [batch, heads, rows, head size] with numbers"
    )]
    OpenShape { layer: String, input: String },
    #[error("layer {layer}: its head size is {size}, and the rotary kernel needs a multiple of 16")]
    HeadSize { layer: String, size: usize },
    #[error("layer {layer}: keys are {key:?} and values {value:?} (heads, head size)")]
    UnequalHeads { layer: String, key: (usize, usize), value: (usize, usize) },
    #[error("layer {layer}: {heads} query heads do not share {kv_heads} key heads evenly")]
    UnevenHeads { layer: String, heads: usize, kv_heads: usize },
    #[error("layer {layer}: `{node}` is not the attention of a decoder")]
    NotAttention { layer: String, node: String },
    #[error("layer {layer}: its keys and values are read by {readers} attentions")]
    SharedState { layer: String, readers: usize },
    #[error("layer {layer}: `{node}` normalises after the rotation")]
    NormAfterRotation { layer: String, node: String },
    #[error("layer {layer}: `{node}` does not rotate what it gives")]
    NoRotation { layer: String, node: String },
    #[error("layer {layer}: `{node}` rotates the first {rotated} of {size} numbers of a head")]
    PartialRotation { layer: String, node: String, rotated: usize, size: usize },
    #[error("layer {layer}: `{node}` rotates neighbours, not halves")]
    InterleavedRotation { layer: String, node: String },
    #[error("layer {layer}: `{node}` rotates by angles that do not grow evenly with the position")]
    PositionDependentRotation { layer: String, node: String },
    #[error("its input `{input}` has several rows of positions")]
    SeveralPositions { input: String },
    #[error("layer {layer}: `{node}` caps the scores")]
    Softcap { layer: String, node: String },
    #[error("layer {layer}: `{node}` adds a bias that grows with the distance")]
    Alibi { layer: String, node: String },
    #[error("layer {layer}: `{node}` adds more than a causal mask")]
    AttentionBias { layer: String, node: String },
    #[error("layer {layer}: `{node}` is given scores whose factor changes with the position or the length")]
    UnevenScale { layer: String, node: String },
    #[error(
        "layer {layer}: with its own rotation the tables of all would take {bytes} bytes, more than {limit}"
    )]
    TooManyRotations { layer: String, bytes: usize, limit: usize },
    #[error("layer {layer}: nothing is known of what `{node}` ({operator}) makes")]
    Unknown { layer: String, node: String, operator: String },
    #[error("layer {layer}: `{output}` is not what the fused attention would compute")]
    OtherNumbers { layer: String, output: String },
    #[error("layer {layer}: `{value}` is read outside of its attention by `{node}`")]
    ReadElsewhere { layer: String, value: String, node: String },
    #[error("the configuration says {what} {configured}, the graph {found}")]
    Disagreement { what: &'static str, configured: String, found: String },
    #[error("it has a value `{name}` already")]
    NameTaken { name: String },
}
