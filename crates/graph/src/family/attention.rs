//! The attention of a layer, and what all layers share of it.

use super::writer::{Size, Writer, int};
use super::{Angles, Common, Family, Mask, Oddity, Positions, Scale};
use crate::proto::data_type;

impl Family {
    /// Mask, cosines and sines.
    pub(super) fn common(&self, writer: &mut Writer, embedded: &str) -> Common {
        let past = writer.size("past_key_values.0.key", 2);
        let tokens = writer.size(embedded, 1);
        let total = writer.op("Add", &[&past, &tokens], Vec::new());
        let zero = writer.whole(&[], &[0]);
        let one = writer.whole(&[], &[1]);
        let here = writer.op("Range", &[&past, &total, &one], Vec::new());
        let all = writer.op("Range", &[&zero, &total, &one], Vec::new());
        let rows = writer.unsqueeze(&here, &[0, 1, 3]);
        let columns = writer.unsqueeze(&all, &[0, 1, 2]);
        let mut seen = writer.op("LessOrEqual", &[&columns, &rows], Vec::new());
        if self.oddity == Some(Oddity::PrefixMask) {
            let prefix = writer.whole(&[], &[3]);
            let is_prefix = writer.op("Less", &[&columns, &prefix], Vec::new());
            seen = writer.op("Or", &[&seen, &is_prefix], Vec::new());
        }
        if let Some(window) = self.window {
            let width = writer.whole(&[], &[window as i64]);
            let first = writer.op("Sub", &[&rows, &width], Vec::new());
            let is_near = writer.op("Greater", &[&columns, &first], Vec::new());
            seen = writer.op("And", &[&seen, &is_near], Vec::new());
        }
        if self.positions != Positions::Shapes {
            let given = writer.cast("attention_mask", data_type::BOOL);
            let given = writer.unsqueeze(&given, &[1, 2]);
            seen = writer.op("And", &[&seen, &given], Vec::new());
        }
        let mask = match self.mask {
            Mask::PerLayer => seen,
            Mask::Once => {
                let (open, closed) = (writer.number(0.0), writer.number(f32::MIN));
                writer.op("Where", &[&seen, &open, &closed], Vec::new())
            }
        };
        let positions = match self.positions {
            Positions::Input => "position_ids".to_owned(),
            Positions::Shapes => writer.unsqueeze(&here, &[0]),
            Positions::Mask => self.counted(writer, &past, &total),
        };
        let (cosines, sines) = self.rotation(writer, &positions);
        Common { mask, cosines, sines }
    }

    /// Positions as running sums over the mask.
    fn counted(&self, writer: &mut Writer, past: &str, total: &str) -> String {
        let (axis, one) = (writer.whole(&[], &[1]), writer.whole(&[], &[1]));
        let sums = writer.op("CumSum", &["attention_mask", &axis], Vec::new());
        let places = writer.op("Sub", &[&sums, &one], Vec::new());
        let (start, end) = (writer.unsqueeze(past, &[0]), writer.unsqueeze(total, &[0]));
        let axes = writer.whole(&[1], &[1]);
        writer.op("Slice", &[&places, &start, &end, &axes], Vec::new())
    }

    /// The numbers of a head that are rotated.
    fn rotated(&self) -> usize {
        if self.oddity == Some(Oddity::PartialRotation) { self.head_size / 2 } else { self.head_size }
    }

    fn rotation(&self, writer: &mut Writer, positions: &str) -> (String, String) {
        let pairs = self.rotated() / 2;
        let frequency = |pair: usize| {
            let slow = if pair >= pairs / 2 { self.slowed } else { 1.0 };
            self.theta.powf(-(pair as f32) / pairs as f32) * slow
        };
        let frequencies = (0..pairs).map(frequency);
        let mut angles = match self.angles {
            Angles::Product => {
                let held = writer.weights("inv_freq", &[1, pairs as i64, 1], frequencies);
                let batch = writer.size(positions, 0);
                let shape = writer.shape(&[Size::Value(&batch), Size::Number(-1), Size::Number(1)]);
                let ones = writer.whole(&[3], &[1, 1, 1]);
                let minus = writer.whole(&[3], &[-1, -1, -1]);
                let is_open = writer.op("Equal", &[&shape, &minus], Vec::new());
                let shape = writer.op("Where", &[&is_open, &ones, &shape], Vec::new());
                let held = writer.op("Expand", &[&held, &shape], Vec::new());
                let held = writer.cast(&held, data_type::FLOAT);
                let places = writer.unsqueeze(positions, &[1]);
                let places = writer.cast(&places, data_type::FLOAT);
                let angles = writer.op("MatMul", &[&held, &places], Vec::new());
                writer.transpose(&angles, &[0, 2, 1])
            }
            Angles::Outer => {
                let held = writer.weights("inv_freq", &[pairs as i64], frequencies);
                let places = writer.unsqueeze(positions, &[-1]);
                let places = writer.cast(&places, data_type::FLOAT);
                writer.op("Mul", &[&places, &held], Vec::new())
            }
        };
        if self.oddity == Some(Oddity::BoundedAngles) {
            let most = writer.number(12.0);
            angles = writer.op("Min", &[&angles, &most], Vec::new());
        }
        let angles = if self.oddity == Some(Oddity::InterleavedRotation) {
            // Each angle twice in a row.
            let (batch, tokens) = (writer.size(&angles, 0), writer.size(&angles, 1));
            let each = writer.unsqueeze(&angles, &[3]);
            let both = writer.op("Concat", &[&each, &each], vec![int("axis", 3)]);
            let width = Size::Number(self.head_size as i64);
            let shape = writer.shape(&[Size::Value(&batch), Size::Value(&tokens), width]);
            writer.op("Reshape", &[&both, &shape], Vec::new())
        } else {
            writer.op("Concat", &[&angles, &angles], vec![int("axis", -1)])
        };
        let mut side = |operator: &str| {
            let turned = writer.op(operator, &[&angles], Vec::new());
            let scaling = writer.number(self.attention_scaling);
            let turned = writer.op("Mul", &[&turned, &scaling], Vec::new());
            let turned = writer.cast(&turned, data_type::FLOAT);
            writer.unsqueeze(&turned, &[1])
        };
        (side("Cos"), side("Sin"))
    }

    /// `[batch, tokens, hidden]` to the same.
    pub(super) fn attention(&self, writer: &mut Writer, layer: usize, x: &str, common: &Common) -> String {
        let name = format!("model.layers.{layer}.self_attn");
        let (batch, tokens) = (writer.size(x, 0), writer.size(x, 1));
        let heads = |writer: &mut Writer, side: &str, count: usize, has_norm: bool| {
            let width = count * self.head_size;
            let name = format!("{name}.{side}_proj");
            let mut made = writer.product(&name, x, (self.hidden, width), self.products);
            if self.has_biases {
                let bias = writer.random_weights(&format!("{name}.bias"), &[width as i64], 0.0, 0.5);
                // Exporters name the bias first.
                made = writer.op("Add", &[&bias, &made], Vec::new());
            }
            let size = Size::Number(self.head_size as i64);
            let shape = [Size::Value(&batch), Size::Value(&tokens), Size::Number(-1), size];
            let shape = writer.shape(&shape);
            made = writer.op("Reshape", &[&made, &shape], Vec::new());
            if has_norm {
                made = self.norm(writer, &format!("{name}.norm"), &made, self.head_size);
            }
            writer.transpose(&made, &[0, 2, 1, 3])
        };
        let query = heads(writer, "q", self.heads(), self.has_norms);
        let key = heads(writer, "k", self.kv_heads, self.has_norms);
        let value = heads(writer, "v", self.kv_heads, false);
        let is_rotated = self.unrotated != Some(layer);
        let query = if is_rotated { self.rotate(writer, &query, common) } else { query };
        let mut key = if is_rotated { self.rotate(writer, &key, common) } else { key };
        if self.oddity == Some(Oddity::NormAfterRotation) {
            key = self.norm(writer, &format!("{name}.late_norm"), &key, self.head_size);
        }
        let past = |kind: &str| format!("past_key_values.{layer}.{kind}");
        let present = |kind: &str| format!("present.{layer}.{kind}");
        writer.named("Concat", &[&past("key"), &key], &present("key"), vec![int("axis", -2)]);
        writer.named("Concat", &[&past("value"), &value], &present("value"), vec![int("axis", -2)]);
        let is_shared = self.oddity == Some(Oddity::SharedState) && layer > 0;
        let keys = if is_shared { "present.0.key".to_owned() } else { present("key") };
        let keys = self.repeated(writer, &keys);
        let mut values = self.repeated(writer, &present("value"));
        if self.oddity == Some(Oddity::DoubledValues) {
            values = writer.op("Add", &[&values, &values], Vec::new());
        }
        let scores = self.scores(writer, &query, &keys);
        let scores = self.masked(writer, &scores, &keys, common);
        let mut shares = writer.op("Softmax", &[&scores], vec![int("axis", -1)]);
        if self.has_guard {
            let is_nothing = writer.op("IsNaN", &[&shares], Vec::new());
            let zero = writer.number(0.0);
            shares = writer.op("Where", &[&is_nothing, &zero, &shares], Vec::new());
        }
        let mixed = writer.op("MatMul", &[&shares, &values], Vec::new());
        let mixed = writer.transpose(&mixed, &[0, 2, 1, 3]);
        let shape = writer.shape(&[Size::Value(&batch), Size::Value(&tokens), Size::Number(-1)]);
        let mut mixed = writer.op("Reshape", &[&mixed, &shape], Vec::new());
        if self.oddity == Some(Oddity::ReadElsewhere) {
            let rows = writer.size(&present("key"), 2);
            let rows = writer.cast(&rows, data_type::FLOAT);
            mixed = writer.op("Mul", &[&mixed, &rows], Vec::new());
        }
        let sizes = (self.heads() * self.head_size, self.hidden);
        writer.product(&format!("{name}.o_proj"), &mixed, sizes, self.products)
    }

    /// `[batch, heads, tokens, head size]`, rotated.
    fn rotate(&self, writer: &mut Writer, heads: &str, common: &Common) -> String {
        match self.oddity {
            Some(Oddity::NoRotation) => return heads.to_owned(),
            Some(Oddity::InterleavedRotation) => return self.rotate_neighbours(writer, heads, common),
            _ => {}
        }
        let zero = writer.whole(&[1], &[0]);
        let end = writer.whole(&[1], &[i64::MAX]);
        let border = writer.whole(&[1], &[self.rotated() as i64]);
        let is_partial = self.rotated() < self.head_size;
        let turned = if is_partial { writer.slice(heads, &zero, &border) } else { heads.to_owned() };
        let straight = writer.op("Mul", &[&turned, &common.cosines], Vec::new());
        // The middle is computed, as tracing leaves it.
        let size = writer.size(&turned, 3);
        let two = writer.whole(&[], &[2]);
        let half = writer.op("Div", &[&size, &two], Vec::new());
        let half = writer.cast(&half, data_type::INT64);
        let half = writer.unsqueeze(&half, &[0]);
        let low = writer.slice(&turned, &zero, &half);
        let high = writer.slice(&turned, &half, &end);
        let high = writer.op("Neg", &[&high], Vec::new());
        let crossed = writer.op("Concat", &[&high, &low], vec![int("axis", -1)]);
        let crossed = writer.op("Mul", &[&crossed, &common.sines], Vec::new());
        let rotated = writer.op("Add", &[&straight, &crossed], Vec::new());
        if !is_partial {
            return rotated;
        }
        let rest = writer.slice(heads, &border, &end);
        writer.op("Concat", &[&rotated, &rest], vec![int("axis", -1)])
    }

    /// Even and odd places are turned against each other.
    fn rotate_neighbours(&self, writer: &mut Writer, heads: &str, common: &Common) -> String {
        let straight = writer.op("Mul", &[heads, &common.cosines], Vec::new());
        let (axis, step) = (writer.whole(&[1], &[3]), writer.whole(&[1], &[2]));
        let end = writer.whole(&[1], &[i64::MAX]);
        let mut every_second = |start: i64| {
            let start = writer.whole(&[1], &[start]);
            let places = writer.op("Slice", &[heads, &start, &end, &axis, &step], Vec::new());
            writer.unsqueeze(&places, &[4])
        };
        let (even, odd) = (every_second(0), every_second(1));
        let odd = writer.op("Neg", &[&odd], Vec::new());
        let pairs = writer.op("Concat", &[&odd, &even], vec![int("axis", 4)]);
        let shape = writer.op("Shape", &[heads], Vec::new());
        let crossed = writer.op("Reshape", &[&pairs, &shape], Vec::new());
        let crossed = writer.op("Mul", &[&crossed, &common.sines], Vec::new());
        writer.op("Add", &[&straight, &crossed], Vec::new())
    }

    /// Each key head as often as query heads share it.
    fn repeated(&self, writer: &mut Writer, state: &str) -> String {
        if self.group == 1 && !self.always_expands {
            return state.to_owned();
        }
        let sizes: Vec<String> = (0..4).map(|axis| writer.size(state, axis)).collect();
        let is_tiled = self.oddity == Some(Oddity::TiledHeads);
        let wide = writer.unsqueeze(state, &[if is_tiled { 1 } else { 2 }]);
        let times = Size::Number(self.group as i64);
        let [batch, heads, rows, width] = [0, 1, 2, 3].map(|axis: usize| Size::Value(&sizes[axis]));
        let shape =
            if is_tiled { [batch, times, heads, rows, width] } else { [batch, heads, times, rows, width] };
        let shape = writer.shape(&shape);
        let wide = writer.op("Expand", &[&wide, &shape], Vec::new());
        let group = writer.whole(&[], &[self.group as i64]);
        let all = writer.op("Mul", &[&sizes[1], &group], Vec::new());
        let [batch, all, rows, width] = [&sizes[0], &all, &sizes[2], &sizes[3]].map(|size| Size::Value(size));
        let shape = writer.shape(&[batch, all, rows, width]);
        writer.op("Reshape", &[&wide, &shape], Vec::new())
    }

    fn scores(&self, writer: &mut Writer, query: &str, keys: &str) -> String {
        let size = self.head_size as f32;
        let turned = writer.transpose(keys, &[0, 1, 3, 2]);
        let product =
            |writer: &mut Writer, query: &str, keys: &str| writer.op("MatMul", &[query, keys], Vec::new());
        match self.scale {
            Scale::BothSides => {
                let (left, right) = (writer.number(size.powf(-0.25)), writer.number(size.powf(-0.25)));
                let query = writer.op("Mul", &[query, &left], Vec::new());
                let keys = writer.op("Mul", &[&turned, &right], Vec::new());
                product(writer, &query, &keys)
            }
            Scale::Computed => {
                let size = writer.size(query, 3);
                let size = writer.cast(&size, data_type::FLOAT);
                let root = writer.op("Sqrt", &[&size], Vec::new());
                let one = writer.number(1.0);
                let scale = writer.op("Div", &[&one, &root], Vec::new());
                let scale = writer.op("Sqrt", &[&scale], Vec::new());
                let query = writer.op("Mul", &[query, &scale], Vec::new());
                let keys = writer.op("Mul", &[&turned, &scale], Vec::new());
                product(writer, &query, &keys)
            }
            Scale::Query => {
                let scale = writer.number(size.powf(-0.5));
                let query = writer.op("Mul", &[query, &scale], Vec::new());
                product(writer, &query, &turned)
            }
            Scale::Product => {
                let scores = product(writer, query, &turned);
                let scale = writer.number(size.powf(-0.5));
                writer.op("Mul", &[&scores, &scale], Vec::new())
            }
            Scale::Divided => {
                let scores = product(writer, query, &turned);
                let root = writer.number(size.sqrt());
                writer.op("Div", &[&scores, &root], Vec::new())
            }
        }
    }

    fn masked(&self, writer: &mut Writer, scores: &str, keys: &str, common: &Common) -> String {
        let mut scores = scores.to_owned();
        if self.oddity == Some(Oddity::Softcap) {
            let cap = writer.number(20.0);
            let share = writer.op("Div", &[&scores, &cap], Vec::new());
            let share = writer.op("Tanh", &[&share], Vec::new());
            scores = writer.op("Mul", &[&share, &cap], Vec::new());
        }
        if let Some(Oddity::ScaledByLength | Oddity::ScaledFar) = self.oddity {
            let rows = writer.size(keys, 2);
            let rows = writer.cast(&rows, data_type::FLOAT);
            let factor = if self.oddity == Some(Oddity::ScaledFar) {
                let (hundred, one) = (writer.number(100.0), writer.number(1.0));
                let factor = writer.op("Div", &[&rows, &hundred], Vec::new());
                writer.op("Max", &[&factor, &one], Vec::new())
            } else {
                writer.op("Sqrt", &[&rows], Vec::new())
            };
            scores = writer.op("Mul", &[&scores, &factor], Vec::new());
        }
        if self.oddity == Some(Oddity::Alibi) {
            let heads = self.heads() as i64;
            let slopes = (0..heads).map(|head| 0.5_f32.powi(head as i32 + 1)).collect::<Vec<_>>();
            let name = format!("slopes_{}", writer.tensors.len());
            let slopes = writer.weights(&name, &[1, heads, 1, 1], slopes.into_iter());
            let rows = writer.size(keys, 2);
            let (zero, one) = (writer.whole(&[], &[0]), writer.whole(&[], &[1]));
            let places = writer.op("Range", &[&zero, &rows, &one], Vec::new());
            let places = writer.cast(&places, data_type::FLOAT);
            let bias = writer.op("Mul", &[&slopes, &places], Vec::new());
            scores = writer.op("Add", &[&scores, &bias], Vec::new());
        }
        let added = match self.mask {
            Mask::Once => common.mask.clone(),
            Mask::PerLayer => {
                let rows = writer.size(keys, 2);
                let rows = writer.unsqueeze(&rows, &[0]);
                let zero = writer.whole(&[1], &[0]);
                let cut = writer.slice(&common.mask, &zero, &rows);
                let (open, closed) = (writer.number(0.0), writer.number(f32::NEG_INFINITY));
                writer.op("Where", &[&cut, &open, &closed], Vec::new())
            }
        };
        writer.op("Add", &[&scores, &added], Vec::new())
    }
}
