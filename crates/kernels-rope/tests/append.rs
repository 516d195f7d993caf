//! Appending to a cache without a rotation, of random shapes with one, and at lengths that only the device reads: the bits are
//! those of the separate operations, on the CPU and on every device that `PARITY_DEVICES` lists. Named cases are in
//! `tests/suite`.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

mod common;

use common::{glm4, table};
use device_mem::{Device, DeviceBuffer, Float, MemError, RanOn};
use half::{bf16, f16};
use kernels_rope::{
    AppendAt, AppendKv, BlockTable, HeadsMut, KvBlocks, KvLayout, Pairing, Positions, RopeConfig, RopeError,
    append_kv, apply_position_embeddings, apply_position_embeddings_append,
};
use parity::uniform_with_special;
use proptest::prelude::*;

/// Not zero, so that an element that is written shows, and exact in every type.
const UNTOUCHED: f32 = -77.0;

/// The CPU, and the devices under test.
fn devices() -> Vec<Device> {
    parity::cpu_and_devices().unwrap()
}

fn on<T: Float>(device: &Device, values: &[T]) -> DeviceBuffer<T> {
    DeviceBuffer::from_host_vec(device, values.to_vec()).unwrap()
}

/// Bits, NaN's payload aside.
fn bits<T: Float>(values: &[T]) -> Vec<u32> {
    values
        .iter()
        .map(|value| if value.to_f32().is_nan() { u32::MAX } else { value.to_f32().to_bits() })
        .collect()
}

/// Runs an operation, and asserts that on a HIP device it is `launches` launches and nothing else.
fn counted(device: &Device, launches: u64, run: impl FnOnce() -> Result<RanOn, RopeError>) {
    let before = device.transfers();
    let ran_on = run().unwrap();
    let mut expected = before;
    if let Device::Hip(_) = device {
        assert_eq!(ran_on, RanOn::Hip);
        expected.launches += launches;
    } else {
        assert_eq!(ran_on, RanOn::Cpu);
    }
    assert_eq!(device.transfers(), expected, "no copy, no allocation, no wait");
}

/// A pass and the layer of a cache that it is appended to.
struct Pass<T: Float> {
    config: RopeConfig,
    q_heads: u32,
    layout: KvLayout,
    first: u32,
    positions: Vec<u32>,
    q: Vec<T>,
    k: Vec<T>,
    v: Vec<T>,
}

impl<T: Float> Pass<T> {
    fn new(config: RopeConfig, (q_heads, kv_heads): (u32, u32), tokens: u32, first: u32) -> Pass<T> {
        let head_dim = config.head_dim;
        let row_len = head_dim.next_multiple_of(8);
        let layout = KvLayout { kv_heads, capacity: first + tokens + 2, head_dim, row_len };
        let data = |seed: u64, heads: u32| uniform_with_special(seed, (tokens * heads * head_dim) as usize);
        let positions = (0..tokens).map(|token| (token * 37 + first) % 64).collect();
        Pass {
            config,
            q_heads,
            layout,
            first,
            positions,
            q: data(1, q_heads),
            k: data(2, kv_heads),
            v: data(3, kv_heads),
        }
    }

    fn tokens(&self) -> u32 {
        u32::try_from(self.positions.len()).unwrap()
    }

    /// `rows` `[tokens, kv_heads, head_dim]` rounded into an untouched layer, straight from the definition.
    fn appended<C: Float>(&self, rows: &[T]) -> Vec<C> {
        let KvLayout { kv_heads, capacity, head_dim, row_len } = self.layout;
        let mut layer = vec![C::from_f32(UNTOUCHED); (kv_heads * capacity * row_len) as usize];
        for (row, values) in (0..).zip(rows.chunks_exact(head_dim as usize)) {
            let (token, head) = (row / kv_heads, row % kv_heads);
            let to = ((head * capacity + self.first + token) * row_len) as usize;
            for (stored, value) in layer[to..].iter_mut().zip(values) {
                *stored = C::from_f32(value.to_f32());
            }
        }
        layer
    }

    /// Every device gives what the CPU's rotation and the definition of the layer give.
    fn check<C: Float>(&self) {
        let (tokens, head_dim) = (self.tokens(), self.config.head_dim);
        let untouched = vec![C::from_f32(UNTOUCHED); self.layout.len().unwrap()];
        let rotate = |device: &Device, append: bool| {
            let table = table(self.config.clone(), 64, device);
            let at = Positions::new(&table, &self.positions).unwrap();
            let (mut q, mut k, v) = (on(device, &self.q), on(device, &self.k), on(device, &self.v));
            let (mut keys, mut values) = (on(device, &untouched), on(device, &untouched));
            let q_heads = HeadsMut::new(q.as_view_mut().unwrap(), tokens, self.q_heads, head_dim).unwrap();
            let k_heads =
                HeadsMut::new(k.as_view_mut().unwrap(), tokens, self.layout.kv_heads, head_dim).unwrap();
            let launches = u64::from(tokens > 0 && self.q_heads + self.layout.kv_heads > 0);
            if append {
                let (keys, values) = (keys.as_view_mut().unwrap(), values.as_view_mut().unwrap());
                let append = AppendKv::new(v.as_view(), keys, values, self.layout, self.first).unwrap();
                counted(device, launches, || {
                    apply_position_embeddings_append(&table, q_heads, k_heads, append, &at)
                });
            } else {
                apply_position_embeddings(&table, q_heads, k_heads, &at).unwrap();
            }
            [q, k]
                .map(|buffer| buffer.to_host_vec().unwrap())
                .into_iter()
                .chain([self.v.clone()])
                .zip(
                    [None, Some(keys), Some(values)]
                        .map(|cache| cache.map(|cache| cache.to_host_vec().unwrap())),
                )
                .collect::<Vec<_>>()
        };
        let alone = rotate(&Device::Cpu, false);
        for device in devices() {
            let fused = rotate(&device, true);
            for ((expected, _), (found, layer)) in alone.iter().zip(&fused) {
                assert_eq!(bits(expected), bits(found), "on {device}");
                if let Some(layer) = layer {
                    assert_eq!(bits(&self.appended::<C>(expected)), bits(layer), "cache on {device}");
                }
            }
        }
    }
}

fn config(head_dim: u32, rotary_dim: u32, pairing: Pairing) -> RopeConfig {
    RopeConfig { head_dim, rotary_dim, pairing, ..glm4() }
}

#[test]
fn keys_are_appended_as_they_are() {
    fn check<C: Float>(pass: &Pass<f32>) {
        let untouched = vec![C::from_f32(UNTOUCHED); pass.layout.len().unwrap()];
        for device in devices() {
            let (k, v) = (on(&device, &pass.k), on(&device, &pass.v));
            let (mut keys, mut values) = (on(&device, &untouched), on(&device, &untouched));
            let layer = (keys.as_view_mut().unwrap(), values.as_view_mut().unwrap());
            let append = AppendKv::new(v.as_view(), layer.0, layer.1, pass.layout, pass.first).unwrap();
            counted(&device, u64::from(pass.tokens() > 0), || append_kv(k.as_view(), pass.tokens(), append));
            assert_eq!(bits(&pass.appended::<C>(&pass.k)), bits(&keys.to_host_vec().unwrap()), "{device}");
            assert_eq!(bits(&pass.appended::<C>(&pass.v)), bits(&values.to_host_vec().unwrap()), "{device}");
        }
    }
    for (kv_heads, head_dim, tokens) in [(2, 128, 3), (1, 1, 1), (3, 257, 2), (5, 80, 4), (2, 8, 0)] {
        let pass = Pass::<f32>::new(RopeConfig { head_dim, ..glm4() }, (0, kv_heads), tokens, 6);
        check::<f32>(&pass);
        check::<f16>(&pass);
        check::<bf16>(&pass);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn random_shapes_are_appended_to_the_bit(
        half_dim in 1..80_u32, part in 1..=80_u32, odd: bool, q_heads in 0..7_u32, kv_heads in 0..5_u32,
        tokens in 0..7_u32, first in 0..40_u32,
    ) {
        let config = config(2 * half_dim + u32::from(odd), 2 * part.min(half_dim), Pairing::Interleaved);
        Pass::<f32>::new(config, (q_heads, kv_heads), tokens, first).check::<bf16>();
    }
}

#[test]
fn a_cache_of_another_type_needs_f32_on_a_device() {
    let layout = KvLayout { kv_heads: 2, capacity: 9, head_dim: 8, row_len: 8 };
    for device in parity::devices().unwrap() {
        let table = table(config(8, 4, Pairing::Interleaved), 16, &device);
        let at = Positions::span(&table, 0, 4).unwrap();
        let ones = |heads: usize| on(&device, &vec![f16::ONE; 4 * heads * 8]);
        let (mut q, mut k, v) = (ones(4), ones(2), ones(2));
        let [mut keys, mut values] = [(); 2].map(|()| on(&device, &[bf16::from_f32(UNTOUCHED); 2 * 9 * 8]));
        let before = device.transfers();
        let (cached_keys, cached_values) = (keys.as_view_mut().unwrap(), values.as_view_mut().unwrap());
        let append = AppendKv::new(v.as_view(), cached_keys, cached_values, layout, 3).unwrap();
        let q_heads = HeadsMut::new(q.as_view_mut().unwrap(), 4, 4, 8).unwrap();
        let k_heads = HeadsMut::new(k.as_view_mut().unwrap(), 4, 2, 8).unwrap();
        let error = apply_position_embeddings_append(&table, q_heads, k_heads, append, &at).unwrap_err();
        assert!(matches!(error, RopeError::CacheDType { .. }), "{error}");
        assert!(error.to_string().contains("no kernel appends f16 to a cache of bf16"), "{error}");
        assert_eq!(device.transfers(), before);
        for unchanged in [&q, &k] {
            assert!(unchanged.to_host_vec().unwrap().iter().all(|&value| value == f16::ONE));
        }
        for unchanged in [&keys, &values] {
            assert!(unchanged.to_host_vec().unwrap().iter().all(|value| value.to_f32() == UNTOUCHED));
        }
    }
}

#[test]
fn keys_of_the_wrong_length_and_other_devices_are_refused() {
    let devices = devices();
    let layout = KvLayout { kv_heads: 2, capacity: 4, head_dim: 8, row_len: 8 };
    for device in &devices {
        let (k, v) = (on(device, &[1.0_f32; 31]), on(device, &[1.0_f32; 32]));
        let [mut keys, mut values] = [(); 2].map(|()| on(device, &[UNTOUCHED; 64]));
        let (keys, values) = (keys.as_view_mut().unwrap(), values.as_view_mut().unwrap());
        let append = AppendKv::new(v.as_view(), keys, values, layout, 0).unwrap();
        let error = append_kv(k.as_view(), 2, append).unwrap_err();
        assert!(matches!(error, RopeError::DataLength { tokens: 2, found: 31, .. }), "{error}");
    }
    for (here, there) in [(&devices[0], &devices[1]), (&devices[1], &devices[0])] {
        let (k, v) = (on(here, &[1.0_f32; 32]), on(here, &[1.0_f32; 32]));
        let (mut keys, mut values) = (on(here, &[UNTOUCHED; 64]), on(there, &[UNTOUCHED; 64]));
        let (keys, values_view) = (keys.as_view_mut().unwrap(), values.as_view_mut().unwrap());
        let append = AppendKv::new(v.as_view(), keys, values_view, layout, 0).unwrap();
        let error = append_kv(k.as_view(), 2, append).unwrap_err();
        assert!(matches!(error, RopeError::Mem(MemError::ForeignDevice { .. })), "{error}");
        assert_eq!(values.to_host_vec().unwrap(), [UNTOUCHED; 64]);
    }
}

#[test]
fn keys_of_other_heads_than_the_caches_are_refused() {
    let layout = KvLayout { kv_heads: 2, capacity: 4, head_dim: 8, row_len: 8 };
    for device in devices() {
        let table = table(config(8, 4, Pairing::Interleaved), 16, &device);
        let at = Positions::span(&table, 0, 2).unwrap();
        let ones = |heads: usize| on(&device, &vec![1.0_f32; 2 * heads * 8]);
        let (mut q, mut k, v) = (ones(2), ones(1), ones(1));
        let [mut keys, mut values] = [(); 2].map(|()| on(&device, &[UNTOUCHED; 64]));
        let (cached_keys, cached_values) = (keys.as_view_mut().unwrap(), values.as_view_mut().unwrap());
        let append = AppendKv::new(v.as_view(), cached_keys, cached_values, layout, 0).unwrap();
        let q_heads = HeadsMut::new(q.as_view_mut().unwrap(), 2, 2, 8).unwrap();
        let k_heads = HeadsMut::new(k.as_view_mut().unwrap(), 2, 1, 8).unwrap();
        let error = apply_position_embeddings_append(&table, q_heads, k_heads, append, &at).unwrap_err();
        assert!(matches!(error, RopeError::CacheHeads { kv_heads: 1, head_dim: 8, .. }), "{error}");
        assert_eq!(keys.to_host_vec().unwrap(), [UNTOUCHED; 64]);
        assert_eq!(values.to_host_vec().unwrap(), [UNTOUCHED; 64]);
    }
}

/// Rotates a token of each of two sequences behind `lengths` of a paged cache; its keys and values.
fn next_of_each(device: &Device, lengths: &[u32]) -> Result<[Vec<f32>; 2], RopeError> {
    let layout = KvLayout { kv_heads: 2, capacity: 4, head_dim: 8, row_len: 8 };
    let mut blocks = BlockTable::new(device, 7, 4, 2, 3)?;
    blocks.assign(0, &[6, 2])?;
    blocks.assign(1, &[0, 5, 3])?;
    let table = table(config(8, 4, Pairing::Interleaved), 16, device);
    let at = Positions::new(&table, &[9, 1])?;
    let data = uniform_with_special::<f32>(6, 2 * 3 * 8);
    let (mut q, mut k, v) = (on(device, &data), on(device, &data[..32]), on(device, &data[8..40]));
    let [mut keys, mut values] = [(); 2].map(|()| on(device, &[UNTOUCHED; 7 * 64]));
    let lengths = DeviceBuffer::from_host_vec(device, lengths.to_vec())?;
    let append = AppendKv::to_blocks(
        v.as_view(),
        keys.as_view_mut()?,
        values.as_view_mut()?,
        layout,
        KvBlocks::Table(&blocks),
        AppendAt::Next(lengths.as_view()),
    )?;
    let q = HeadsMut::new(q.as_view_mut()?, 2, 3, 8)?;
    apply_position_embeddings_append(&table, q, HeadsMut::new(k.as_view_mut()?, 2, 2, 8)?, append, &at)?;
    Ok([keys.to_host_vec()?, values.to_host_vec()?])
}

#[test]
fn the_next_token_of_each_sequence_goes_to_its_block() {
    let rows = |block: usize, place: usize| [0, 1].map(|head| ((block * 2 + head) * 4 + place) * 8);
    let cpu = next_of_each(&Device::Cpu, &[5, 8]).unwrap();
    for cache in &cpu {
        let written = [rows(2, 1), rows(3, 0)].concat();
        for (at, row) in (0..).step_by(8).zip(cache.chunks(8)) {
            assert_eq!(bits(row) != bits(&[UNTOUCHED; 8]), written.contains(&at), "row at {at}");
        }
    }
    let error = next_of_each(&Device::Cpu, &[8, 8]).unwrap_err();
    assert!(matches!(error, RopeError::CacheFull { first: 8, tokens: 1, capacity: 8 }), "{error}");
    for device in parity::devices().unwrap() {
        assert_eq!(
            cpu.each_ref().map(|cache| bits(cache)),
            next_of_each(&device, &[5, 8]).unwrap().map(|cache| bits(&cache))
        );
        // What only the device reads is checked there: a sequence without a block for the token gets nothing.
        for full in [8, 12, u32::MAX] {
            for (cache, expected) in next_of_each(&device, &[full, 8]).unwrap().iter().zip(&cpu) {
                let mut expected = expected.clone();
                rows(2, 1).iter().for_each(|&at| expected[at..at + 8].fill(UNTOUCHED));
                assert_eq!(bits(&expected), bits(cache), "{full} on {device}");
            }
        }
        let error = next_of_each(&device, &[5]).unwrap_err();
        assert!(matches!(error, RopeError::Lengths { sequences: 2, tokens: 2, found: 1 }), "{error}");
    }
}
