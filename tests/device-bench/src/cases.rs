//! What is timed, at the shapes of GLM-4-9B and GLM-4.5-Air.

use anyhow::Result;
use device_mem::{Device, DeviceBuffer, Element};
use half::bf16;
use serde_json::{Value, json};

use crate::time::Timed;
use crate::{attend, rows};

/// Puts one run of an operation into the device's stream.
pub(crate) type Operation = Box<dyn FnMut() -> Result<()>>;

/// Makes the operands of an operation.
pub(crate) type Prepare = Box<dyn Fn(&Device) -> Result<Operation>>;

pub(crate) const F32: usize = size_of::<f32>();
pub(crate) const BF16: usize = size_of::<bf16>();
pub(crate) const HEAD_DIM: usize = 128;
pub(crate) const ROTARY_DIM: usize = 64;
const TOKENS: [usize; 4] = [1, 16, 512, 8192];
/// Keys that a decoded token sees.
const CONTEXTS: [usize; 4] = [1024, 8192, 32_768, 131_072];

/// The widths of a model.
#[derive(Clone, Copy)]
pub(crate) struct Shapes {
    pub(crate) model: &'static str,
    pub(crate) hidden: usize,
    pub(crate) q_heads: usize,
    pub(crate) kv_heads: usize,
    /// Of the dense MLP.
    pub(crate) intermediate: usize,
    pub(crate) vocab: usize,
}

const MODELS: [Shapes; 2] = [
    Shapes {
        model: "GLM-4-9B",
        hidden: 4096,
        q_heads: 32,
        kv_heads: 2,
        intermediate: 13_696,
        vocab: 151_552,
    },
    Shapes {
        model: "GLM-4.5-Air",
        hidden: 4096,
        q_heads: 96,
        kv_heads: 8,
        intermediate: 10_944,
        vocab: 151_552,
    },
];

/// One operation at one shape.
pub(crate) struct Case {
    pub(crate) op: &'static str,
    pub(crate) model: &'static str,
    pub(crate) tokens: usize,
    /// What else the shape has, by name.
    pub(crate) shape: Value,
    /// The fewest bytes that it moves: each operand once.
    pub(crate) bytes: usize,
    /// Multiplications and additions.
    pub(crate) operations: usize,
    pub(crate) prepare: Prepare,
}

impl Case {
    pub(crate) fn name(&self) -> String {
        format!("{} {} tokens {} {}", self.op, self.model, self.tokens, self.shape)
    }

    pub(crate) fn row(&self, timed: &Timed) -> Value {
        json!({
            "op": self.op, "model": self.model, "tokens": self.tokens, "shape": self.shape,
            "bytes": self.bytes, "operations": self.operations,
            "seconds": timed.seconds, "range": timed.range, "graph": timed.is_graph, "copies": timed.copies,
        })
    }
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for model in MODELS {
        for tokens in TOKENS {
            cases.push(attend::rotation(model, tokens));
            cases.push(rows::norm(model, tokens));
            cases.push(rows::residual_norm(model, tokens));
            cases.push(rows::gate(model, tokens));
            let Shapes { hidden, intermediate, q_heads, .. } = model;
            cases.push(rows::product(model, "linear out", tokens, q_heads * HEAD_DIM, hidden));
            cases.push(rows::product(model, "linear gate_up", tokens, hidden, 2 * intermediate));
            cases.push(rows::product(model, "linear down", tokens, intermediate, hidden));
        }
        cases.push(rows::product(model, "linear logits", 1, model.hidden, model.vocab));
        cases.push(rows::norm_gate(model));
        cases.extend(CONTEXTS.map(|keys| attend::decode(model, keys)));
        cases.extend(
            [(16, 8192), (512, 512), (512, 8192), (8192, 8192)]
                .map(|(tokens, keys)| attend::pass(model, tokens, keys)),
        );
    }
    let [first, _] = MODELS;
    cases.extend(TOKENS.map(|tokens| rows::embedding(first, tokens)));
    cases.extend(TOKENS.map(|tokens| rows::sum(first, tokens)));
    cases.extend([rows::greedy(first), rows::drawn(first)]);
    cases
}

/// Random numbers of [-1, 1), which repeat late.
fn numbers<T: Clone>(len: usize, of: impl Fn(f32) -> T) -> Vec<T> {
    const PERIOD: usize = (1 << 20) - 3;
    // Knuth's linear congruential generator, of whose 64 bits the upper ones are used.
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
    };
    let period = Vec::from_iter((0..len.min(PERIOD)).map(|_| of(next())));
    period.into_iter().cycle().take(len).collect()
}

pub(crate) fn filled(device: &Device, len: usize) -> Result<DeviceBuffer<f32>> {
    upload(device, numbers(len, |number| number))
}

pub(crate) fn filled_bf16(device: &Device, len: usize) -> Result<DeviceBuffer<bf16>> {
    upload(device, numbers(len, |number| bf16::from_f32(number / 64.0)))
}

pub(crate) fn upload<T: Element>(device: &Device, values: Vec<T>) -> Result<DeviceBuffer<T>> {
    Ok(DeviceBuffer::from_host_vec(device, values)?)
}
