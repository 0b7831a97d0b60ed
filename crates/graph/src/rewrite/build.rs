//! The messages that passes add to graphs.

use crate::Graph;
use crate::proto::{AttributeProto, NodeProto, OperatorSetIdProto, TensorProto, attribute_type, data_type};

/// Imports the operators of the runtime's own domain, where the graph does not.
pub(super) fn import_own_operators(graph: &mut Graph) {
    if graph.operator_set("com.microsoft").is_none() {
        graph.edit_model().opset_import.push(OperatorSetIdProto {
            domain: Some("com.microsoft".to_owned()),
            version: Some(1),
            ..Default::default()
        });
    }
}

/// A whole number of a node.
pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(attribute_type::INT),
        i: Some(value),
        ..Default::default()
    }
}

/// Whole numbers of a node.
pub(super) fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(attribute_type::INTS),
        ints: values.to_vec(),
        ..Default::default()
    }
}

/// A real number of a node.
pub(super) fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(attribute_type::FLOAT),
        f: Some(value),
        ..Default::default()
    }
}

/// A node of the standard domain.
pub(super) fn node(
    operator: &str,
    name: &str,
    inputs: &[&str],
    outputs: &[&str],
    attributes: Vec<AttributeProto>,
) -> NodeProto {
    NodeProto {
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: outputs.iter().map(|name| (*name).to_owned()).collect(),
        name: Some(name.to_owned()),
        op_type: Some(operator.to_owned()),
        attribute: attributes,
        ..Default::default()
    }
}

/// Whole numbers of 64 bits; a scalar where `dims` is empty.
pub(super) fn whole(name: &str, dims: &[i64], values: &[i64]) -> TensorProto {
    TensorProto {
        dims: dims.to_vec(),
        data_type: Some(data_type::INT64),
        name: Some(name.to_owned()),
        raw_data: Some(values.iter().flat_map(|value| value.to_le_bytes()).collect()),
        ..Default::default()
    }
}

/// Numbers of 32 bits, as bytes.
pub(super) fn real(name: &str, dims: &[i64], raw_data: Vec<u8>) -> TensorProto {
    TensorProto {
        dims: dims.to_vec(),
        data_type: Some(data_type::FLOAT),
        name: Some(name.to_owned()),
        raw_data: Some(raw_data),
        ..Default::default()
    }
}
