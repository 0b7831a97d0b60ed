//! What the tests share: models in a few lines, folders to put them in, the fixtures.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};

use graph::preflight::{self, Finding, Problem, Report};
use graph::proto::tensor_shape_proto::{Dimension, dimension};
use graph::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, attribute_type, data_type, type_proto,
};
use graph::{Error, Graph, Limits};
use prost::Message;
use tempfile::TempDir;

pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace exists")
}

/// The graphs of the shared fixtures; `None` (and one line) where they are absent, except in continuous
/// integration.
#[expect(clippy::print_stdout, reason = "whoever reads the log must see that a test was skipped")]
pub(crate) fn fixtures() -> Option<Vec<PathBuf>> {
    let folder = workspace().join("../shared/fixtures/models");
    if !folder.is_dir() {
        assert!(std::env::var_os("CI").is_none(), "the fixtures must lie at {}", folder.display());
        println!("skipped: there are no fixtures at {}", folder.display());
        return None;
    }
    let entries = std::fs::read_dir(folder).expect("the folder is read");
    let mut graphs: Vec<_> =
        entries.map(|entry| entry.expect("an entry").path().join("model.onnx")).collect();
    graphs.sort();
    assert!(graphs.len() >= 10, "{graphs:?}");
    Some(graphs)
}

/// One fixture's graph.
pub(crate) fn fixture(name: &str) -> Option<PathBuf> {
    fixtures()?.into_iter().find(|path| path.parent().is_some_and(|folder| folder.ends_with(name)))
}

/// The built-in model's graph.
pub(crate) fn ember() -> PathBuf {
    workspace().join("models/ember/model.onnx")
}

/// The graph as it is read again after it was written, which passes.
pub(crate) fn again(graph: &Graph) -> Graph {
    let bytes = graph.to_bytes(graph::Weights::Embed).expect("it is written");
    let again = Graph::from_bytes(graph.path(), bytes, &Limits::default()).expect("it is read");
    let report = preflight::inspect(&again, &preflight::Files::beside(graph.path()), &Limits::default());
    assert!(report.is_passed(), "{:?}", report.findings);
    again
}

pub(crate) fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

pub(crate) fn node(op_type: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: outputs.iter().map(|name| (*name).to_owned()).collect(),
        op_type: text(op_type),
        ..Default::default()
    }
}

/// A node of the runtime's own domain with whole attributes.
pub(crate) fn kernel(op_type: &str, inputs: &[&str], outputs: &[&str], given: &[(&str, i64)]) -> NodeProto {
    NodeProto {
        domain: text("com.microsoft"),
        attribute: given.iter().map(|(name, value)| int(name, *value)).collect(),
        ..node(op_type, inputs, outputs)
    }
}

pub(crate) fn with(mut node: NodeProto, attribute: AttributeProto) -> NodeProto {
    node.attribute.push(attribute);
    node
}

pub(crate) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: text(name),
        r#type: Some(attribute_type::INT),
        i: Some(value),
        ..Default::default()
    }
}

pub(crate) fn ints(name: &str, values: &[i64]) -> AttributeProto {
    let kind = Some(attribute_type::INTS);
    AttributeProto { name: text(name), r#type: kind, ints: values.to_vec(), ..Default::default() }
}

pub(crate) fn tensor(name: &str, value: TensorProto) -> AttributeProto {
    let kind = Some(attribute_type::TENSOR);
    AttributeProto { name: text(name), r#type: kind, t: Some(Box::new(value)), ..Default::default() }
}

pub(crate) fn subgraph(name: &str, value: GraphProto) -> AttributeProto {
    let kind = Some(attribute_type::GRAPH);
    AttributeProto { name: text(name), r#type: kind, g: Some(Box::new(value)), ..Default::default() }
}

/// A node `Constant` that makes `output`.
pub(crate) fn constant(output: &str, value: TensorProto) -> NodeProto {
    with(node("Constant", &[], &[output]), tensor("value", value))
}

/// Whole numbers; a scalar where `dims` is empty.
pub(crate) fn whole(name: &str, dims: &[i64], values: &[i64]) -> TensorProto {
    TensorProto {
        name: text(name),
        dims: dims.to_vec(),
        data_type: Some(data_type::INT64),
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

/// Real numbers, all zero, as raw bytes.
pub(crate) fn zeros(name: &str, dims: &[i64]) -> TensorProto {
    let count: i64 = dims.iter().product();
    TensorProto {
        name: text(name),
        dims: dims.to_vec(),
        data_type: Some(data_type::FLOAT),
        raw_data: Some(vec![0; count as usize * 4]),
        ..Default::default()
    }
}

pub(crate) fn bytes(name: &str, dims: &[i64]) -> TensorProto {
    let count: i64 = dims.iter().product();
    TensorProto {
        name: text(name),
        dims: dims.to_vec(),
        data_type: Some(data_type::UINT8),
        raw_data: Some(vec![0; count as usize]),
        ..Default::default()
    }
}

pub(crate) fn entry(key: &str, value: &str) -> StringStringEntryProto {
    StringStringEntryProto { key: text(key), value: text(value), ..Default::default() }
}

/// A tensor of four numbers whose weights lie where `entries` say.
pub(crate) fn outside(name: &str, entries: &[(&str, &str)]) -> TensorProto {
    TensorProto {
        name: text(name),
        dims: vec![4],
        data_type: Some(data_type::FLOAT),
        data_location: Some(1),
        external_data: entries.iter().map(|(key, value)| entry(key, value)).collect(),
        ..Default::default()
    }
}

/// A value with a shape; a negative dimension becomes a symbol.
pub(crate) fn value(name: &str, element: i32, dims: &[i64]) -> ValueInfoProto {
    let dim = dims.iter().map(|&size| {
        let value = match size {
            0.. => dimension::Value::DimValue(size),
            _ => dimension::Value::DimParam(format!("symbol_{name}")),
        };
        Dimension { value: Some(value), ..Default::default() }
    });
    let shape = TensorShapeProto { dim: dim.collect(), ..Default::default() };
    let tensor = type_proto::Tensor { elem_type: Some(element), shape: Some(shape), ..Default::default() };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: text(name), r#type: Some(kind), ..Default::default() }
}

pub(crate) fn of_nodes(nodes: Vec<NodeProto>) -> ModelProto {
    model(graph_of(nodes, vec![]))
}

pub(crate) fn is_too_large(problem: &Problem) -> bool {
    matches!(problem, Problem::TooLarge { .. } | Problem::Folding { .. })
}

/// A graph of these nodes that takes `x` and gives what the last one makes.
pub(crate) fn graph_of(nodes: Vec<NodeProto>, initializers: Vec<TensorProto>) -> GraphProto {
    let output = nodes.last().map_or("x", |node| node.output[0].as_str());
    GraphProto {
        name: text("g"),
        input: vec![value("x", data_type::FLOAT, &[-1, 4])],
        output: vec![value(output, data_type::FLOAT, &[-1, -1])],
        node: nodes,
        initializer: initializers,
        ..Default::default()
    }
}

pub(crate) fn model(graph: GraphProto) -> ModelProto {
    let set = |domain: &str, version| OperatorSetIdProto {
        domain: text(domain),
        version: Some(version),
        ..Default::default()
    };
    ModelProto {
        ir_version: Some(10),
        opset_import: vec![set("", 21), set("com.microsoft", 1)],
        producer_name: text("tests"),
        graph: Some(Box::new(graph)),
        ..Default::default()
    }
}

/// A folder with a model in it.
pub(crate) struct Folder {
    folder: TempDir,
}

impl Folder {
    pub(crate) fn new(model: &ModelProto) -> Self {
        Self::of_bytes(&model.encode_to_vec())
    }

    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("model.onnx"), bytes).expect("the model is written");
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn check(&self) -> Result<Report, Error> {
        preflight::check(&self.path("model.onnx"), &Limits::default())
    }

    pub(crate) fn open(&self) -> Graph {
        Graph::open(&self.path("model.onnx"), &Limits::default()).expect("it is read")
    }
}

/// What is wrong with the model in `folder`.
#[track_caller]
pub(crate) fn refused(folder: &Folder) -> Vec<Finding> {
    match folder.check() {
        Err(Error::Refused { findings, path }) => {
            assert_eq!(path, folder.path("model.onnx"));
            assert!(!findings.is_empty());
            findings
        }
        other => panic!("expected findings, got {other:?}"),
    }
}

/// The model is refused for the reason that `expected` knows.
#[track_caller]
pub(crate) fn refuses(model: &ModelProto, expected: impl Fn(&Problem) -> bool) {
    let findings = refused(&Folder::new(model));
    assert!(findings.iter().any(|finding| expected(&finding.problem)), "{findings:?}");
}

#[track_caller]
pub(crate) fn passes(model: &ModelProto) -> Report {
    Folder::new(model).check().expect("nothing is wrong with it")
}

/// A model in which every field of every message is set.
pub(crate) fn everything() -> ModelProto {
    use graph::proto::{
        DeviceConfigurationProto, FunctionProto, IntIntListEntryProto, NodeDeviceConfigurationProto, Segment,
        ShardedDimProto, ShardingSpecProto, SimpleShardedDimProto, SparseTensorProto, TensorAnnotation,
        TrainingInfoProto, simple_sharded_dim_proto,
    };
    let props = || vec![entry("key", "value")];
    let full_tensor = || TensorProto {
        dims: vec![1, 2],
        data_type: Some(1),
        segment: Some(Segment { begin: Some(1), end: Some(2), ..Default::default() }),
        float_data: vec![0.5],
        int32_data: vec![-1],
        string_data: vec![b"s".to_vec()],
        int64_data: vec![-2],
        name: text("t"),
        doc_string: text("d"),
        raw_data: Some(vec![1, 2]),
        external_data: props(),
        data_location: Some(1),
        double_data: vec![0.25],
        uint64_data: vec![3],
        metadata_props: props(),
        ..Default::default()
    };
    let full_sparse = || SparseTensorProto {
        values: Some(full_tensor()),
        indices: Some(full_tensor()),
        dims: vec![4],
        ..Default::default()
    };
    let full_shape = || TensorShapeProto {
        dim: vec![
            Dimension {
                value: Some(dimension::Value::DimValue(3)),
                denotation: text("n"),
                ..Default::default()
            },
            Dimension { value: Some(dimension::Value::DimParam("s".to_owned())), ..Default::default() },
        ],
        ..Default::default()
    };
    let typed = |value| TypeProto { value: Some(value), denotation: text("d"), ..Default::default() };
    let dense = || {
        let shape = Some(full_shape());
        typed(type_proto::Value::TensorType(type_proto::Tensor {
            elem_type: Some(1),
            shape,
            ..Default::default()
        }))
    };
    let types = || {
        let inner = || Some(Box::new(dense()));
        vec![
            dense(),
            typed(type_proto::Value::SequenceType(Box::new(type_proto::Sequence {
                elem_type: inner(),
                ..Default::default()
            }))),
            typed(type_proto::Value::MapType(Box::new(type_proto::Map {
                key_type: Some(7),
                value_type: inner(),
                ..Default::default()
            }))),
            typed(type_proto::Value::OptionalType(Box::new(type_proto::Optional {
                elem_type: inner(),
                ..Default::default()
            }))),
            typed(type_proto::Value::SparseTensorType(type_proto::SparseTensor {
                elem_type: Some(1),
                shape: Some(full_shape()),
                ..Default::default()
            })),
            typed(type_proto::Value::OpaqueType(type_proto::Opaque {
                domain: text("d"),
                name: text("n"),
                ..Default::default()
            })),
        ]
    };
    let full_value = || ValueInfoProto {
        name: text("v"),
        r#type: Some(dense()),
        doc_string: text("d"),
        metadata_props: props(),
        ..Default::default()
    };
    let inner_graph = || GraphProto { name: text("inner"), ..Default::default() };
    let full_attribute = || AttributeProto {
        name: text("a"),
        ref_attr_name: text("r"),
        doc_string: text("d"),
        r#type: Some(2),
        f: Some(1.5),
        i: Some(-7),
        s: Some(b"s".to_vec()),
        t: Some(Box::new(full_tensor())),
        g: Some(Box::new(inner_graph())),
        sparse_tensor: Some(Box::new(full_sparse())),
        tp: Some(Box::new(dense())),
        floats: vec![1.0, 2.0],
        ints: vec![1, -1],
        strings: vec![b"x".to_vec()],
        tensors: vec![full_tensor()],
        graphs: vec![inner_graph()],
        sparse_tensors: vec![full_sparse()],
        type_protos: types(),
        ..Default::default()
    };
    let sharded = |dim| SimpleShardedDimProto { dim: Some(dim), num_shards: Some(2), ..Default::default() };
    let sharding = ShardingSpecProto {
        tensor_name: text("t"),
        device: vec![0, 1],
        index_to_device_group_map: vec![IntIntListEntryProto {
            key: Some(1),
            value: vec![2, 3],
            ..Default::default()
        }],
        sharded_dim: vec![ShardedDimProto {
            axis: Some(1),
            simple_sharding: vec![
                sharded(simple_sharded_dim_proto::Dim::DimValue(1)),
                sharded(simple_sharded_dim_proto::Dim::DimParam("s".to_owned())),
            ],
            ..Default::default()
        }],
        ..Default::default()
    };
    let full_node = || NodeProto {
        name: text("n"),
        domain: text("d"),
        overload: text("o"),
        attribute: vec![full_attribute()],
        doc_string: text("d"),
        metadata_props: props(),
        device_configurations: vec![NodeDeviceConfigurationProto {
            configuration_id: text("c"),
            sharding_spec: vec![sharding.clone()],
            pipeline_stage: Some(1),
            ..Default::default()
        }],
        ..node("Op", &["x", ""], &["y"])
    };
    let full_graph = || GraphProto {
        node: vec![full_node(), full_node()],
        name: text("g"),
        initializer: vec![full_tensor()],
        sparse_initializer: vec![full_sparse()],
        doc_string: text("d"),
        input: vec![full_value()],
        output: vec![full_value()],
        value_info: vec![full_value()],
        quantization_annotation: vec![TensorAnnotation {
            tensor_name: text("t"),
            quant_parameter_tensor_names: props(),
            ..Default::default()
        }],
        metadata_props: props(),
        ..Default::default()
    };
    ModelProto {
        ir_version: Some(14),
        opset_import: vec![OperatorSetIdProto { domain: text("d"), version: Some(1), ..Default::default() }],
        producer_name: text("p"),
        producer_version: text("1"),
        domain: text("d"),
        model_version: Some(3),
        doc_string: text("d"),
        graph: Some(Box::new(full_graph())),
        metadata_props: props(),
        training_info: vec![TrainingInfoProto {
            initialization: Some(full_graph()),
            algorithm: Some(full_graph()),
            initialization_binding: props(),
            update_binding: props(),
            ..Default::default()
        }],
        functions: vec![FunctionProto {
            name: text("f"),
            input: vec!["x".to_owned()],
            output: vec!["y".to_owned()],
            attribute: vec!["a".to_owned()],
            attribute_proto: vec![full_attribute()],
            node: vec![full_node()],
            doc_string: text("d"),
            opset_import: vec![OperatorSetIdProto::default()],
            domain: text("d"),
            overload: text("o"),
            value_info: vec![full_value()],
            metadata_props: props(),
            ..Default::default()
        }],
        configuration: vec![DeviceConfigurationProto {
            name: text("c"),
            num_devices: Some(2),
            device: vec!["a".to_owned()],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// The most memory that this process ever had, in bytes.
#[cfg(target_os = "linux")]
pub(crate) fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the system tells");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
    line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok()).expect("a number") * 1024
}
