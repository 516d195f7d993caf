use half::{bf16, f16};

use crate::card::{Arguments, Card, each_build};
use crate::compare::{Random, Real, assert_close, wide};
use crate::compile::Dialect;
use crate::reference::{Attention, attend};

const SHAPE: Attention = Attention { heads: 4, kv_heads: 2, head_dim: 128 };
const POSITIONS: usize = 77;
/// Scores are sums of 128 products in nine roundings, their terms' sizes below 6 in units of log2: 4e-6 on each
/// weight; ten steps of the online softmax and the merge of eight waves add 50 roundings of f32, outputs are below 1.
const LIMIT: f64 = 1e-5;

fn decode<T: Real>(card: &Card, kernel: &str) {
    let Attention { heads, kv_heads, head_dim } = SHAPE;
    let mut random = Random::new(7);
    let query = random.values::<T>(heads * head_dim);
    let (key, value) = (
        random.values::<T>(POSITIONS * kv_heads * head_dim),
        random.values::<T>(POSITIONS * kv_heads * head_dim),
    );
    let expected = attend(SHAPE, &wide(&query), &wide(&key), &wide(&value), POSITIONS);
    let out = card.upload(&vec![T::zeroed(); heads * head_dim]);
    let (query, key, value) = (card.upload(&query), card.upload(&key), card.upload(&value));
    let scale = f32::nearest(std::f64::consts::LOG2_E / (head_dim as f64).sqrt());
    let arguments = Arguments::default().buffer(&out).buffer(&query).buffer(&key).buffer(&value);
    let arguments = arguments.size(POSITIONS).size(kv_heads).size(heads / kv_heads);
    card.launch(kernel, [heads, 1, 1], 256, arguments.value(scale));
    assert_close(card, kernel, &card.download(&out), &expected, LIMIT);
}

#[test]
fn attn_decode() {
    each_build(Dialect::Bare, "attn_decode", &[], |card| {
        decode::<f32>(card, "attn_decode_f32");
        decode::<f16>(card, "attn_decode_f16");
        decode::<bf16>(card, "attn_decode_bf16");
    });
}
