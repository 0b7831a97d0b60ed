//! The schema of `proto.rs` as the walk sees it: which fields a message has, and how each lies in a file.

/// The kinds of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Segment,
    SparseTensor,
    ValueInfo,
    Type,
    TensorType,
    SequenceType,
    MapType,
    OptionalType,
    OpaqueType,
    Shape,
    Dimension,
    Entry,
    OperatorSet,
    Function,
    Training,
    Annotation,
    DeviceConfiguration,
    NodeDeviceConfiguration,
    ShardingSpec,
    IntIntList,
    ShardedDim,
    SimpleShardedDim,
}

impl Kind {
    /// What the message is, for errors.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Model => "the model",
            Self::Graph => "a graph",
            Self::Node => "a node",
            Self::Attribute => "an attribute",
            Self::Tensor => "a tensor",
            Self::Segment => "a segment",
            Self::SparseTensor => "a sparse tensor",
            Self::ValueInfo => "a value's description",
            Self::Type
            | Self::TensorType
            | Self::SequenceType
            | Self::MapType
            | Self::OptionalType
            | Self::OpaqueType => "a type",
            Self::Shape => "a shape",
            Self::Dimension => "a dimension",
            Self::Entry => "a named text",
            Self::OperatorSet => "an operator set",
            Self::Function => "a function",
            Self::Training => "a training program",
            Self::Annotation => "an annotation",
            Self::DeviceConfiguration
            | Self::NodeDeviceConfiguration
            | Self::ShardingSpec
            | Self::IntIntList
            | Self::ShardedDim
            | Self::SimpleShardedDim => "a device configuration",
        }
    }
}

/// How the value of a field lies in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Varint,
    Fixed32,
    Fixed64,
    Text,
    Bytes,
    Message(Kind),
}

/// A field of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) form: Form,
    pub(crate) repeated: bool,
    /// Whether the value may be weights, which stay in the file where they are long.
    pub(crate) weights: bool,
}

/// The field `number` of a message of `kind`, or `None` where the schema has none.
pub(crate) fn field(kind: Kind, number: u32) -> Option<Field> {
    use Form::{Bytes, Fixed32, Fixed64, Text, Varint};
    let field = match (kind, number) {
        (Kind::Model, 1 | 5) => one(Varint),
        (Kind::Model, 2 | 3 | 4 | 6) => one(Text),
        (Kind::Model, 7) => one(Form::Message(Kind::Graph)),
        (Kind::Model, 8) => many(Form::Message(Kind::OperatorSet)),
        (Kind::Model, 14) => many(Form::Message(Kind::Entry)),
        (Kind::Model, 20) => many(Form::Message(Kind::Training)),
        (Kind::Model, 25) => many(Form::Message(Kind::Function)),
        (Kind::Model, 26) => many(Form::Message(Kind::DeviceConfiguration)),

        (Kind::Graph, 1) => many(Form::Message(Kind::Node)),
        (Kind::Graph, 2 | 10) => one(Text),
        (Kind::Graph, 5) => many(Form::Message(Kind::Tensor)),
        (Kind::Graph, 11..=13) => many(Form::Message(Kind::ValueInfo)),
        (Kind::Graph, 14) => many(Form::Message(Kind::Annotation)),
        (Kind::Graph, 15) => many(Form::Message(Kind::SparseTensor)),
        (Kind::Graph, 16) => many(Form::Message(Kind::Entry)),

        (Kind::Node, 1 | 2) => many(Text),
        (Kind::Node, 3 | 4 | 6 | 7 | 8) => one(Text),
        (Kind::Node, 5) => many(Form::Message(Kind::Attribute)),
        (Kind::Node, 9) => many(Form::Message(Kind::Entry)),
        (Kind::Node, 10) => many(Form::Message(Kind::NodeDeviceConfiguration)),

        (Kind::Attribute, 1 | 13 | 21) => one(Text),
        (Kind::Attribute, 20 | 3) => one(Varint),
        (Kind::Attribute, 2) => one(Fixed32),
        (Kind::Attribute, 4) => one(Bytes),
        (Kind::Attribute, 5) => one(Form::Message(Kind::Tensor)),
        (Kind::Attribute, 6) => one(Form::Message(Kind::Graph)),
        (Kind::Attribute, 22) => one(Form::Message(Kind::SparseTensor)),
        (Kind::Attribute, 14) => one(Form::Message(Kind::Type)),
        (Kind::Attribute, 7) => many(Fixed32),
        (Kind::Attribute, 8) => many(Varint),
        (Kind::Attribute, 9) => many(Bytes),
        (Kind::Attribute, 10) => many(Form::Message(Kind::Tensor)),
        (Kind::Attribute, 11) => many(Form::Message(Kind::Graph)),
        (Kind::Attribute, 23) => many(Form::Message(Kind::SparseTensor)),
        (Kind::Attribute, 15) => many(Form::Message(Kind::Type)),

        (Kind::Tensor, 1) => many(Varint),
        (Kind::Tensor, 2 | 14) => one(Varint),
        (Kind::Tensor, 3) => one(Form::Message(Kind::Segment)),
        (Kind::Tensor, 4) => weights(many(Fixed32)),
        (Kind::Tensor, 5 | 7 | 11) => weights(many(Varint)),
        (Kind::Tensor, 6) => many(Bytes),
        (Kind::Tensor, 8 | 12) => one(Text),
        (Kind::Tensor, 9) => weights(one(Bytes)),
        (Kind::Tensor, 10) => weights(many(Fixed64)),
        (Kind::Tensor, 13 | 16) => many(Form::Message(Kind::Entry)),

        (Kind::Segment, 1 | 2) => one(Varint),

        (Kind::SparseTensor, 1 | 2) => one(Form::Message(Kind::Tensor)),
        (Kind::SparseTensor, 3) => many(Varint),

        (Kind::ValueInfo, 1 | 3) => one(Text),
        (Kind::ValueInfo, 2) => one(Form::Message(Kind::Type)),
        (Kind::ValueInfo, 4) => many(Form::Message(Kind::Entry)),

        (Kind::Type, 1 | 8) => one(Form::Message(Kind::TensorType)),
        (Kind::Type, 4) => one(Form::Message(Kind::SequenceType)),
        (Kind::Type, 5) => one(Form::Message(Kind::MapType)),
        (Kind::Type, 6) => one(Text),
        (Kind::Type, 7) => one(Form::Message(Kind::OpaqueType)),
        (Kind::Type, 9) => one(Form::Message(Kind::OptionalType)),
        (Kind::TensorType, 1) => one(Varint),
        (Kind::TensorType, 2) => one(Form::Message(Kind::Shape)),
        (Kind::SequenceType | Kind::OptionalType, 1) => one(Form::Message(Kind::Type)),
        (Kind::MapType, 1) => one(Varint),
        (Kind::MapType, 2) => one(Form::Message(Kind::Type)),
        (Kind::OpaqueType, 1 | 2) => one(Text),

        (Kind::Shape, 1) => many(Form::Message(Kind::Dimension)),
        (Kind::Dimension, 1) => one(Varint),
        (Kind::Dimension, 2 | 3) => one(Text),

        (Kind::Entry, 1 | 2) => one(Text),
        (Kind::OperatorSet, 1) => one(Text),
        (Kind::OperatorSet, 2) => one(Varint),

        (Kind::Function, 1 | 8 | 10 | 13) => one(Text),
        (Kind::Function, 4..=6) => many(Text),
        (Kind::Function, 7) => many(Form::Message(Kind::Node)),
        (Kind::Function, 9) => many(Form::Message(Kind::OperatorSet)),
        (Kind::Function, 11) => many(Form::Message(Kind::Attribute)),
        (Kind::Function, 12) => many(Form::Message(Kind::ValueInfo)),
        (Kind::Function, 14) => many(Form::Message(Kind::Entry)),

        (Kind::Training, 1 | 2) => one(Form::Message(Kind::Graph)),
        (Kind::Training, 3 | 4) => many(Form::Message(Kind::Entry)),

        (Kind::Annotation, 1) => one(Text),
        (Kind::Annotation, 2) => many(Form::Message(Kind::Entry)),

        (Kind::DeviceConfiguration, 1) => one(Text),
        (Kind::DeviceConfiguration, 2) => one(Varint),
        (Kind::DeviceConfiguration, 3) => many(Text),
        (Kind::NodeDeviceConfiguration, 1) => one(Text),
        (Kind::NodeDeviceConfiguration, 2) => many(Form::Message(Kind::ShardingSpec)),
        (Kind::NodeDeviceConfiguration, 3) => one(Varint),
        (Kind::ShardingSpec, 1) => one(Text),
        (Kind::ShardingSpec, 2) => many(Varint),
        (Kind::ShardingSpec, 3) => many(Form::Message(Kind::IntIntList)),
        (Kind::ShardingSpec, 4) => many(Form::Message(Kind::ShardedDim)),
        (Kind::IntIntList, 1) => one(Varint),
        (Kind::IntIntList, 2) => many(Varint),
        (Kind::ShardedDim, 1) => one(Varint),
        (Kind::ShardedDim, 2) => many(Form::Message(Kind::SimpleShardedDim)),
        (Kind::SimpleShardedDim, 1 | 3) => one(Varint),
        (Kind::SimpleShardedDim, 2) => one(Text),
        _ => return None,
    };
    Some(field)
}

fn one(form: Form) -> Field {
    Field { form, repeated: false, weights: false }
}

fn many(form: Form) -> Field {
    Field { form, repeated: true, weights: false }
}

fn weights(field: Field) -> Field {
    Field { weights: true, ..field }
}
