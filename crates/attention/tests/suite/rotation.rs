//! `self_attention` is rotation, append and attend, and refuses before it writes.

use attention::{AttentionError, AttentionShape, KvCache, KvDType, Qkv, self_attention};
use device_mem::{Device, View, ViewMut};
use kernels_rope::{
    Axes, HeadsMut, InvFreq, Pairing, Positions, RopeConfig, RopeError, RopeSpec, RopeTable, Scaling,
    apply_position_embeddings,
};
use parity::{Tolerance, compare};

use crate::common::{Pass, cache, shape};

fn table(head_dim: u32, length: u32) -> RopeTable {
    let spec = RopeSpec::new(RopeConfig {
        head_dim,
        rotary_dim: head_dim / 2,
        theta: 10_000.0,
        pairing: Pairing::Interleaved,
        scaling: Scaling::None,
        axes: Axes::Single,
        inv_freq: InvFreq::Exact,
    });
    RopeTable::new(&spec.unwrap(), length, &Device::Cpu).unwrap()
}

/// Runs the pass on its own vectors; `q` and `k` come back rotated.
fn run(
    pass: &mut Pass,
    table: &RopeTable,
    at: &Positions,
    cache: &mut KvCache,
    out: &mut [f32],
) -> Result<(), AttentionError> {
    let (q, k) = (ViewMut::Host(&mut pass.q), ViewMut::Host(&mut pass.k));
    let qkv = Qkv::new(q, k, View::Host(&pass.v), pass.tokens, pass.shape)?;
    self_attention(qkv, table, at, cache.layer(0)?, ViewMut::Host(out))?;
    cache.commit(pass.tokens)
}

fn rotate(pass: &mut Pass, table: &RopeTable, at: &Positions) {
    let Pass { shape, tokens, q, k, .. } = pass;
    let q = HeadsMut::new(ViewMut::Host(q), *tokens, shape.q_heads(), shape.head_dim()).unwrap();
    let k = HeadsMut::new(ViewMut::Host(k), *tokens, shape.kv_heads(), shape.head_dim()).unwrap();
    apply_position_embeddings(table, q, k, at).unwrap();
}

#[test]
fn it_rotates_in_place_and_attends_to_the_rotated() {
    let table = table(32, 4096);
    let pass = Pass::new(1, shape(8, 2, 32), 45, 4.0);
    let at = Positions::span(&table, 4000, 45).unwrap();
    let mut rotated = pass.clone();
    rotate(&mut rotated, &table, &at);
    let exact = rotated.exact(KvDType::BF16);

    let (mut given, mut out) = (pass.clone(), vec![0.0; pass.q.len()]);
    run(&mut given, &table, &at, &mut cache(pass.shape, 45, KvDType::BF16), &mut out).unwrap();
    compare(&rotated.q, &given.q, Tolerance::Bits).unwrap();
    compare(&rotated.k, &given.k, Tolerance::Bits).unwrap();
    compare(&exact.out, &out, Tolerance::Elementwise(&exact.probable)).unwrap();
}

#[test]
fn steps_of_a_conversation_are_one_prefill() {
    let table = table(32, 64);
    let pass = Pass::new(2, shape(8, 2, 32), 45, 4.0);
    let mut whole = vec![0.0; pass.q.len()];
    let at = Positions::span(&table, 0, 45).unwrap();
    run(&mut pass.clone(), &table, &at, &mut cache(pass.shape, 45, KvDType::BF16), &mut whole).unwrap();

    let mut steps = cache(pass.shape, 45, KvDType::BF16);
    for (from, to) in [(0, 20), (20, 21), (21, 22), (22, 45)] {
        let mut piece = pass.tokens(from, to);
        let mut out = vec![0.0; piece.q.len()];
        let at = Positions::span(&table, steps.len(), to - from).unwrap();
        run(&mut piece, &table, &at, &mut steps, &mut out).unwrap();
        compare(&whole[from as usize * 256..to as usize * 256], &out, Tolerance::Bits).unwrap();
    }
}

#[test]
fn positions_matter_by_their_distance_only() {
    let table = table(16, 2000);
    let pass = Pass::new(3, shape(2, 1, 16), 30, 2.0);
    let at = |positions: Vec<u32>| {
        let mut out = vec![0.0; pass.q.len()];
        let positions = Positions::new(&table, &positions).unwrap();
        run(&mut pass.clone(), &table, &positions, &mut cache(pass.shape, 30, KvDType::F32), &mut out)
            .unwrap();
        out
    };
    let first = at((0..30).collect());
    let shifted = at((1900..1930).collect());
    let stretched = at((0..30).map(|token| 3 * token).collect());
    // Two rotations of 3 u each move a score by at most 12 u |q| |k| / 4 < 2e-5, so an output by twice that at most.
    compare(&first, &shifted, Tolerance::Absolute(4e-5)).unwrap();
    assert!(compare(&first, &stretched, Tolerance::Absolute(1e-2)).is_err());
}

/// The error, after a proof that nothing was written.
fn refused(
    pass: &Pass,
    table: &RopeTable,
    at: &Positions,
    cache: &mut KvCache,
    out_len: usize,
) -> AttentionError {
    let (mut given, mut out, len) = (pass.clone(), vec![7.0; out_len], cache.len());
    let error = run(&mut given, table, at, cache, &mut out).unwrap_err();
    assert!(given.q == pass.q && given.k == pass.k, "{error}");
    assert!(out.iter().all(|&value| value == 7.0), "{error}");
    assert_eq!(cache.len(), len);
    error
}

#[test]
fn every_refusal_comes_before_the_first_write() {
    let shape = shape(4, 2, 32);
    let (table, pass) = (table(32, 64), Pass::new(4, shape, 6, 1.0));
    let at = Positions::span(&table, 0, 6).unwrap();
    let len = pass.q.len();

    let mut other = cache(AttentionShape::new(4, 4, 32).unwrap(), 10, KvDType::F32);
    let error = refused(&pass, &table, &at, &mut other, len);
    assert!(matches!(error, AttentionError::ShapeMismatch { .. }), "{error}");
    let text = "4 query heads on 2 key/value heads of 32, but the cache was made for 4 query heads on 4";
    assert!(error.to_string().contains(text), "{error}");

    let error = refused(&pass, &table, &at, &mut cache(shape, 5, KvDType::F32), len);
    assert!(matches!(error, AttentionError::Capacity { len: 0, tokens: 6, capacity: 5 }), "{error}");
    let error = refused(&pass, &table, &at, &mut cache(shape, 10, KvDType::F32), len - 1);
    assert!(matches!(error, AttentionError::OperandLength { operand: "out", .. }), "{error}");

    let five = Positions::span(&table, 0, 5).unwrap();
    let error = refused(&pass, &table, &five, &mut cache(shape, 10, KvDType::F32), len);
    assert!(
        matches!(error, AttentionError::Rope(RopeError::Tokens { expected: 5, found: 6, .. })),
        "{error}"
    );
    let wide = crate::rotation::table(64, 64);
    let error = refused(&pass, &wide, &at, &mut cache(shape, 10, KvDType::F32), len);
    assert!(
        matches!(error, AttentionError::Rope(RopeError::HeadDim { expected: 64, found: 32, .. })),
        "{error}"
    );
}
