//! `self_attention` is rotation, append and attend, on the CPU and on every device, and refuses before it writes.

use attention::{AttentionError, AttentionShape, KvCache, KvDType, Qkv, self_attention};
use device_mem::{Device, RanOn};
use kernels_rope::{
    Axes, HeadsMut, InvFreq, Pairing, Positions, RopeConfig, RopeError, RopeSpec, RopeTable, Scaling,
    apply_position_embeddings,
};
use parity::{Tolerance, compare};

use crate::common::{Pass, cache, devices, gpus, on, shape};
use crate::truth::Order;

fn table(device: &Device, head_dim: u32, length: u32) -> RopeTable {
    let spec = RopeSpec::new(RopeConfig {
        head_dim,
        rotary_dim: head_dim / 2,
        theta: 10_000.0,
        pairing: Pairing::Interleaved,
        scaling: Scaling::None,
        axes: Axes::Single,
        inv_freq: InvFreq::Exact,
    });
    RopeTable::new(&spec.unwrap(), length, device).unwrap()
}

/// Runs the pass where the cache lives; `q`, `k` and `out` come back as they then are. On a HIP device that is two
/// launches, or none when it is refused.
fn run(
    pass: &mut Pass,
    table: &RopeTable,
    at: &Positions,
    cache: &mut KvCache,
    out: &mut [f32],
) -> Result<(), AttentionError> {
    let device = cache.device().clone();
    let (mut q, mut k, v) = (on(&device, &pass.q), on(&device, &pass.k), on(&device, &pass.v));
    let mut out_buffer = on(&device, out);
    let before = device.transfers();
    let done =
        Qkv::new(q.as_view_mut()?, k.as_view_mut()?, v.as_view(), pass.tokens, pass.shape).and_then(|qkv| {
            let ran_on = self_attention(qkv, table, at, cache.layer(0)?, out_buffer.as_view_mut()?)?;
            assert_eq!(ran_on == RanOn::Hip, matches!(device, Device::Hip(_)));
            Ok(())
        });
    let mut expected = before;
    if let (Device::Hip(_), Ok(())) = (&device, &done) {
        expected.launches += 2;
    }
    assert_eq!(device.transfers(), expected, "no copy, no allocation, no wait");
    out.copy_from_slice(&out_buffer.to_host_vec()?);
    (pass.q, pass.k) = (q.to_host_vec()?, k.to_host_vec()?);
    done?;
    cache.commit(pass.tokens)
}

fn rotate(pass: &mut Pass, table: &RopeTable, at: &Positions) {
    let Pass { shape, tokens, q, k, .. } = pass;
    let (mut q_buffer, mut k_buffer) = (on(&Device::Cpu, q), on(&Device::Cpu, k));
    let q_heads =
        HeadsMut::new(q_buffer.as_view_mut().unwrap(), *tokens, shape.q_heads(), shape.head_dim()).unwrap();
    let k_heads =
        HeadsMut::new(k_buffer.as_view_mut().unwrap(), *tokens, shape.kv_heads(), shape.head_dim()).unwrap();
    apply_position_embeddings(table, q_heads, k_heads, at).unwrap();
    (*q, *k) = (q_buffer.to_host_vec().unwrap(), k_buffer.to_host_vec().unwrap());
}

#[test]
fn it_rotates_in_place_and_attends_to_the_rotated() {
    let pass = Pass::new(1, shape(8, 2, 32), 45, 4.0);
    let mut rotated = pass.clone();
    let cpu_table = table(&Device::Cpu, 32, 4096);
    rotate(&mut rotated, &cpu_table, &Positions::span(&cpu_table, 4000, 45).unwrap());

    for device in devices() {
        let table = table(&device, 32, 4096);
        let at = Positions::span(&table, 4000, 45).unwrap();
        let (mut given, mut out) = (pass.clone(), vec![0.0; pass.q.len()]);
        run(&mut given, &table, &at, &mut cache(&device, pass.shape, 45, KvDType::BF16), &mut out).unwrap();
        compare(&rotated.q, &given.q, Tolerance::Bits).unwrap();
        compare(&rotated.k, &given.k, Tolerance::Bits).unwrap();
        let exact = rotated.exact(KvDType::BF16, Order::of(&device, KvDType::BF16, pass.shape, pass.tokens));
        compare(&exact.out, &out, Tolerance::Elementwise(&exact.probable)).unwrap();
        // The rotation appends what `append` would.
        compare(&rotated.run_alone(&device, KvDType::BF16), &out, Tolerance::Bits).unwrap();
    }
}

#[test]
fn steps_of_a_conversation_are_one_prefill() {
    for device in devices() {
        for tokens in [45, 290] {
            let cut = tokens - 25;
            check_steps(&device, tokens, &[cut, cut + 1, cut + 2, tokens], KvDType::F32);
            check_steps(&device, tokens, &[cut, tokens], KvDType::BF16);
        }
    }
}

#[track_caller]
fn check_steps(device: &Device, tokens: u32, ends: &[u32], dtype: KvDType) {
    let table = table(device, 32, 300);
    let pass = Pass::new(2, shape(8, 2, 32), tokens, 4.0);
    let mut whole = vec![0.0; pass.q.len()];
    let at = Positions::span(&table, 0, tokens).unwrap();
    let mut alone = cache(device, pass.shape, tokens, dtype);
    run(&mut pass.clone(), &table, &at, &mut alone, &mut whole).unwrap();

    let mut steps = cache(device, pass.shape, tokens, dtype);
    for &to in ends {
        let from = steps.len();
        let mut piece = pass.tokens(from, to);
        let mut out = vec![0.0; piece.q.len()];
        let at = Positions::span(&table, from, to - from).unwrap();
        run(&mut piece, &table, &at, &mut steps, &mut out).unwrap();
        compare(&whole[from as usize * 256..to as usize * 256], &out, Tolerance::Bits).unwrap();
    }
}

#[test]
fn positions_matter_by_their_distance_only() {
    let pass = Pass::new(3, shape(2, 1, 16), 30, 2.0);
    for device in devices() {
        let table = table(&device, 16, 2000);
        let at = |positions: Vec<u32>| {
            let mut out = vec![0.0; pass.q.len()];
            let positions = Positions::new(&table, &positions).unwrap();
            let mut cache = cache(&device, pass.shape, 30, KvDType::F32);
            run(&mut pass.clone(), &table, &positions, &mut cache, &mut out).unwrap();
            out
        };
        let first = at((0..30).collect());
        let shifted = at((1900..1930).collect());
        let stretched = at((0..30).map(|token| 3 * token).collect());
        // Two rotations of 3 u each move a score by at most 12 u |q| |k| / 4 < 2e-5, so an output by twice that at most.
        compare(&first, &shifted, Tolerance::Absolute(4e-5)).unwrap();
        assert!(compare(&first, &stretched, Tolerance::Absolute(1e-2)).is_err());
    }
}

/// The error, after a proof that nothing was written or launched.
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
    let pass = Pass::new(4, shape, 6, 1.0);
    let len = pass.q.len();
    for device in devices() {
        let (wide, table) = (table(&device, 64, 64), table(&device, 32, 64));
        let at = Positions::span(&table, 0, 6).unwrap();
        let cache = |shape: AttentionShape, capacity: u32| cache(&device, shape, capacity, KvDType::F32);

        let mut other = cache(AttentionShape::new(4, 4, 32).unwrap(), 10);
        let error = refused(&pass, &table, &at, &mut other, len);
        assert!(matches!(error, AttentionError::ShapeMismatch { .. }), "{error}");
        let text = "4 query heads on 2 key/value heads of 32, but the cache was made for 4 query heads on 4";
        assert!(error.to_string().contains(text), "{error}");

        let error = refused(&pass, &table, &at, &mut cache(shape, 5), len);
        assert!(matches!(error, AttentionError::Capacity { len: 0, tokens: 6, capacity: 5 }), "{error}");
        let error = refused(&pass, &table, &at, &mut cache(shape, 10), len - 1);
        assert!(matches!(error, AttentionError::OperandLength { operand: "out", .. }), "{error}");

        let five = Positions::span(&table, 0, 5).unwrap();
        let error = refused(&pass, &table, &five, &mut cache(shape, 10), len);
        assert!(
            matches!(error, AttentionError::Rope(RopeError::Tokens { expected: 5, found: 6, .. })),
            "{error}"
        );
        let error = refused(&pass, &wide, &at, &mut cache(shape, 10), len);
        assert!(
            matches!(error, AttentionError::Rope(RopeError::HeadDim { expected: 64, found: 32, .. })),
            "{error}"
        );
    }
}

#[test]
fn a_table_of_another_device_is_refused() {
    let pass = Pass::new(5, shape(4, 2, 32), 6, 1.0);
    for device in gpus() {
        let table = table(&Device::Cpu, 32, 64);
        let at = Positions::span(&table, 0, 6).unwrap();
        let mut cache = cache(&device, pass.shape, 10, KvDType::F32);
        let error = refused(&pass, &table, &at, &mut cache, pass.q.len());
        assert!(error.to_string().contains("different devices"), "{error}");
    }
}
