//! Nodes and tensors of a graph that is being written.

use crate::proto::tensor_shape_proto::{Dimension, dimension};
use crate::proto::{
    AttributeProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, attribute_type,
    data_type, type_proto,
};

/// How products get their weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Products {
    /// MatMul with f32.
    Plain,
    /// MatMulNBits, 4 bits in blocks of 32, symmetric.
    Bits4,
    /// MatMulInteger of inputs that are rounded as they come.
    Dynamic8,
}

/// A list of nodes under construction, with weights that follow from a seed.
pub(super) struct Writer {
    pub(super) nodes: Vec<NodeProto>,
    pub(super) tensors: Vec<TensorProto>,
    state: u64,
    count: usize,
}

impl Writer {
    pub(super) fn new(seed: u64) -> Self {
        Self { nodes: Vec::new(), tensors: Vec::new(), state: seed ^ 0x9e37_79b9_7f4a_7c15, count: 0 }
    }

    /// One of `count` numbers from 0.
    pub(super) fn choice(&mut self, count: usize) -> usize {
        ((self.random() * 0.5 + 0.5) * count as f32) as usize % count
    }

    /// Between -1 and 1.
    fn random(&mut self) -> f32 {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
    }

    /// A node of the standard domain; its output has the name that is returned.
    pub(super) fn op(&mut self, operator: &str, inputs: &[&str], given: Vec<AttributeProto>) -> String {
        self.count += 1;
        let output = format!("/{operator}_{}_output_0", self.count);
        self.named(operator, inputs, &output, given);
        output
    }

    /// A node whose output has a name of its own.
    pub(super) fn named(
        &mut self,
        operator: &str,
        inputs: &[&str],
        output: &str,
        given: Vec<AttributeProto>,
    ) {
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: vec![output.to_owned()],
            name: Some(format!("/{operator}_{}", self.nodes.len())),
            op_type: Some(operator.to_owned()),
            attribute: given,
            ..Default::default()
        });
    }

    /// A node `Constant`.
    pub(super) fn constant(&mut self, tensor: TensorProto) -> String {
        let held = AttributeProto {
            name: Some("value".to_owned()),
            r#type: Some(attribute_type::TENSOR),
            t: Some(Box::new(tensor)),
            ..Default::default()
        };
        self.op("Constant", &[], vec![held])
    }

    pub(super) fn whole(&mut self, dims: &[i64], values: &[i64]) -> String {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(raw_tensor("", data_type::INT64, dims, raw))
    }

    pub(super) fn number(&mut self, value: f32) -> String {
        self.constant(raw_tensor("", data_type::FLOAT, &[], value.to_le_bytes().to_vec()))
    }

    /// An initializer of given numbers.
    pub(super) fn weights(&mut self, name: &str, dims: &[i64], values: impl Iterator<Item = f32>) -> String {
        let raw = values.flat_map(f32::to_le_bytes).collect();
        self.tensors.push(raw_tensor(name, data_type::FLOAT, dims, raw));
        name.to_owned()
    }

    /// An initializer of random numbers of some size around a middle.
    pub(super) fn random_weights(&mut self, name: &str, dims: &[i64], middle: f32, size: f32) -> String {
        let count: i64 = dims.iter().product();
        let values: Vec<f32> = (0..count).map(|_| middle + size * self.random()).collect();
        self.weights(name, dims, values.into_iter())
    }

    /// `x` times random weights, `[..., inner]` to `[..., outer]`.
    pub(super) fn product(
        &mut self,
        name: &str,
        x: &str,
        (inner, outer): (usize, usize),
        products: Products,
    ) -> String {
        let size = 1.5 / (inner as f32).sqrt();
        let (inner, outer) = (inner as i64, outer as i64);
        match products {
            Products::Plain => {
                let weight = self.random_weights(&format!("{name}.weight"), &[inner, outer], 0.0, size);
                self.op("MatMul", &[x, &weight], Vec::new())
            }
            Products::Bits4 => {
                let blocks = (inner + 31) / 32;
                let packed =
                    (0..outer * blocks * 16).map(|_| (self.random() * 128.0 + 128.0) as u8).collect();
                let (bytes, scales) = (format!("{name}.weight_Q4"), format!("{name}.weight_scales"));
                self.tensors.push(raw_tensor(&bytes, data_type::UINT8, &[outer, blocks, 16], packed));
                let scales = self.random_weights(&scales, &[outer * blocks], size / 8.0, size / 32.0);
                let given = [("K", inner), ("N", outer), ("bits", 4), ("block_size", 32)];
                let given = given.map(|(name, value)| int(name, value)).to_vec();
                let output = self.op("MatMulNBits", &[x, &bytes, &scales], given);
                if let Some(node) = self.nodes.last_mut() {
                    node.domain = Some("com.microsoft".to_owned());
                }
                output
            }
            Products::Dynamic8 => {
                let raw = (0..inner * outer).map(|_| (self.random() * 127.0) as i8 as u8).collect();
                let bytes = format!("{name}.weight_quantized");
                self.tensors.push(raw_tensor(&bytes, data_type::INT8, &[inner, outer], raw));
                let zero = format!("{name}.weight_zero_point");
                self.tensors.push(raw_tensor(&zero, data_type::INT8, &[], vec![0]));
                let held = self.weights(&format!("{name}.weight_scale"), &[], [size / 127.0].into_iter());
                let rounded = self.op("DynamicQuantizeLinear", &[x], Vec::new());
                let (scale, point) = (format!("{rounded}_scale"), format!("{rounded}_zero_point"));
                if let Some(node) = self.nodes.last_mut() {
                    node.output.extend([scale.clone(), point.clone()]);
                }
                let sums = self.op("MatMulInteger", &[&rounded, &bytes, &point, &zero], Vec::new());
                let sums = self.cast(&sums, data_type::FLOAT);
                let scale = self.op("Mul", &[&scale, &held], Vec::new());
                self.op("Mul", &[&sums, &scale], Vec::new())
            }
        }
    }

    /// Gives the table the numbers that the 4-bit weights of a product stand for: half bytes less eight, the
    /// lower half first, times the scale of their block of 32.
    pub(super) fn tie(&mut self, table: &str, product: &str) {
        let raw = |tensors: &[TensorProto], name: &str| {
            let tensor = tensors.iter().find(|tensor| tensor.name() == name);
            tensor.and_then(|tensor| tensor.raw_data.clone()).unwrap_or_default()
        };
        let packed = raw(&self.tensors, &format!("{product}.weight_Q4"));
        let scales = raw(&self.tensors, &format!("{product}.weight_scales"));
        let mut numbers = Vec::with_capacity(packed.len() * 8);
        for (block, scale) in packed.chunks(16).zip(scales.as_chunks().0) {
            let scale = f32::from_le_bytes(*scale);
            for half in block.iter().flat_map(|byte| [byte & 15, byte >> 4]) {
                numbers.extend_from_slice(&((f32::from(half) - 8.0) * scale).to_le_bytes());
            }
        }
        for tensor in self.tensors.iter_mut().filter(|tensor| tensor.name() == table) {
            tensor.raw_data = Some(std::mem::take(&mut numbers));
        }
    }

    /// One size of a value's shape, a scalar.
    pub(super) fn size(&mut self, value: &str, axis: i64) -> String {
        let shape = self.op("Shape", &[value], Vec::new());
        let place = self.whole(&[], &[axis]);
        self.op("Gather", &[&shape, &place], vec![int("axis", 0)])
    }

    /// A shape of scalars that are values and of numbers.
    pub(super) fn shape(&mut self, sizes: &[Size<'_>]) -> String {
        let mut parts = Vec::new();
        for size in sizes {
            parts.push(match size {
                Size::Value(value) => self.unsqueeze(value, &[0]),
                Size::Number(number) => self.whole(&[1], &[*number]),
            });
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        self.op("Concat", &parts, vec![int("axis", 0)])
    }

    pub(super) fn unsqueeze(&mut self, value: &str, axes: &[i64]) -> String {
        let axes = self.whole(&[axes.len() as i64], axes);
        self.op("Unsqueeze", &[value, &axes], Vec::new())
    }

    pub(super) fn cast(&mut self, value: &str, to: i32) -> String {
        self.op("Cast", &[value], vec![int("to", i64::from(to))])
    }

    pub(super) fn transpose(&mut self, value: &str, order: &[i64]) -> String {
        self.op("Transpose", &[value], vec![ints("perm", order)])
    }

    /// `value[..., start..end]` along the last of four axes.
    pub(super) fn slice(&mut self, value: &str, start: &str, end: &str) -> String {
        let (axis, step) = (self.whole(&[1], &[3]), self.whole(&[1], &[1]));
        self.op("Slice", &[value, start, end, &axis, &step], Vec::new())
    }
}

/// One dimension of a shape.
pub(super) enum Size<'s> {
    Value(&'s str),
    Number(i64),
}

pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(attribute_type::INT),
        i: Some(value),
        ..Default::default()
    }
}

pub(super) fn ints(name: &str, values: &[i64]) -> AttributeProto {
    let kind = Some(attribute_type::INTS);
    AttributeProto { name: Some(name.to_owned()), r#type: kind, ints: values.to_vec(), ..Default::default() }
}

fn raw_tensor(name: &str, element: i32, dims: &[i64], raw_data: Vec<u8>) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: dims.to_vec(),
        data_type: Some(element),
        raw_data: Some(raw_data),
        ..Default::default()
    }
}

/// An input or output whose negative dimensions are the symbols given.
pub(super) fn value(name: &str, element: i32, dims: &[Result<usize, &str>]) -> ValueInfoProto {
    let dim = dims.iter().map(|size| {
        let value = match size {
            Ok(size) => dimension::Value::DimValue(*size as i64),
            Err(symbol) => dimension::Value::DimParam((*symbol).to_owned()),
        };
        Dimension { value: Some(value), ..Default::default() }
    });
    let shape = TensorShapeProto { dim: dim.collect(), ..Default::default() };
    let tensor = type_proto::Tensor { elem_type: Some(element), shape: Some(shape), ..Default::default() };
    let described = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(described), ..Default::default() }
}
