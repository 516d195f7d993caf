//! `decode_attention` is the norm, the rotation, the append and the attention of one token of each sequence: the bits of those,
//! in one launch, at lengths that it reads where it runs.

use attention::{
    AttentionError, AttentionShape, HeadNorm, KvCache, KvDType, NewTokens, Qkv, attend_next,
    decode_attention, self_attention,
};
use device_mem::{Device, DeviceBuffer};
use kernels_rope::{Axes, BlockTable, InvFreq, Pairing, Positions, RopeConfig, RopeSpec, RopeTable, Scaling};
use parity::{Tolerance, compare, uniform};

use crate::bounds::alike;
use crate::common::{KV_TYPES, Pass, counted, devices, gpus, on, shape, shuffled};
use crate::truth::Order;

pub(crate) fn spec(head_dim: u32, rotary_dim: u32, pairing: Pairing) -> RopeConfig {
    RopeConfig {
        head_dim,
        rotary_dim,
        theta: 10_000.0,
        pairing,
        scaling: Scaling::None,
        axes: Axes::Single,
        inv_freq: InvFreq::Exact,
    }
}

pub(crate) fn table(device: &Device, config: RopeConfig, length: u32) -> RopeTable {
    RopeTable::new(&RopeSpec::new(config).unwrap(), length, device).unwrap()
}

/// Projections of one token of each sequence.
#[derive(Clone)]
pub(crate) struct Step {
    shape: AttentionShape,
    sequences: u32,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    /// Of query and key heads.
    norm: Option<[Vec<f32>; 2]>,
}

/// Large enough that a norm without it is another one.
const EPS: f32 = 1e-2;

impl Step {
    pub(crate) fn new(seed: u64, shape: AttentionShape, sequences: u32) -> Step {
        let Pass { q, k, v, .. } = Pass::new(seed, shape, sequences, 4.0);
        Step { shape, sequences, q, k, v, norm: None }
    }

    fn normed(self, seed: u64) -> Step {
        let head_dim = self.shape.head_dim() as usize;
        let weight = |seed| uniform::<f32>(seed, head_dim).iter().map(|weight| 1.0 + weight / 2.0).collect();
        Step { norm: Some([weight(seed), weight(seed + 1)]), ..self }
    }

    /// The step of one sequence alone.
    fn of(&self, sequence: u32) -> Step {
        let part = |values: &[f32]| {
            let row = values.len() / self.sequences as usize;
            values[sequence as usize * row..][..row].to_vec()
        };
        Step { sequences: 1, q: part(&self.q), k: part(&self.k), v: part(&self.v), ..self.clone() }
    }

    /// In one launch, at these positions and lengths; commits nothing.
    pub(crate) fn run(
        &self,
        table: &RopeTable,
        positions: &[u32],
        lengths: &[u32],
        cache: &mut KvCache,
    ) -> Vec<f32> {
        let device = cache.device().clone();
        let (positions, lengths) = (on(&device, positions), on(&device, lengths));
        self.run_at(table, &positions, &lengths, cache)
    }

    fn run_at(
        &self,
        table: &RopeTable,
        positions: &DeviceBuffer<u32>,
        lengths: &DeviceBuffer<u32>,
        cache: &mut KvCache,
    ) -> Vec<f32> {
        let device = cache.device().clone();
        let (q, k, v) = (on(&device, &self.q), on(&device, &self.k), on(&device, &self.v));
        let weights = self.norm.as_ref().map(|norm| norm.each_ref().map(|weight| on(&device, weight)));
        let mut out = on(&device, &vec![7.0; self.q.len()]);
        let tokens =
            NewTokens::new(q.as_view(), k.as_view(), v.as_view(), self.sequences, self.shape).unwrap();
        let norm = weights.as_ref().map(|[q_weight, k_weight]| HeadNorm {
            q_weight: q_weight.as_view(),
            k_weight: k_weight.as_view(),
            eps: EPS,
        });
        let mut layer = cache.layer(0).unwrap();
        counted(&device, 1, || {
            let out = out.as_view_mut().unwrap();
            decode_attention(tokens, norm, table, positions.as_view(), lengths.as_view(), &mut layer, out)
        });
        for (buffer, given) in [(&q, &self.q), (&k, &self.k), (&v, &self.v)] {
            compare(given, &buffer.to_host_vec().unwrap(), Tolerance::Bits).unwrap();
        }
        out.to_host_vec().unwrap()
    }

    /// By a rotation that appends, and an attention: of the first sequence, without a norm. Commits nothing.
    fn run_by_parts(&self, table: &RopeTable, position: u32, cache: &mut KvCache) -> Vec<f32> {
        let device = cache.device().clone();
        let (mut q, mut k, v) = (on(&device, &self.q), on(&device, &self.k), on(&device, &self.v));
        let mut out = on(&device, &vec![7.0; self.q.len()]);
        let at = Positions::span(table, position, 1).unwrap();
        let (q, k) = (q.as_view_mut().unwrap(), k.as_view_mut().unwrap());
        let qkv = Qkv::new(q, k, v.as_view(), 1, self.shape).unwrap();
        self_attention(qkv, table, &at, cache.layer(0).unwrap(), out.as_view_mut().unwrap()).unwrap();
        out.to_host_vec().unwrap()
    }
}

/// A cache with `len` tokens in each sequence.
fn filled(device: &Device, shape: AttentionShape, capacity: u32, len: u32, dtype: KvDType) -> KvCache {
    let mut cache = crate::common::cache(device, shape, capacity, dtype);
    Pass::new(99, shape, len, 1.0).append_only(&mut cache);
    cache
}

/// One token after `len` others: fused and by parts, on every device, and the token after it, which reads what was appended.
fn check(shape: AttentionShape, config: &RopeConfig, len: u32, capacity: u32, dtype: KvDType) {
    let steps = [Step::new(1, shape, 1), Step::new(2, shape, 1)];
    let mut results = Vec::new();
    for device in devices() {
        let what = format!("{shape}, {dtype}, after {len} of {capacity} on {device}");
        let table = table(&device, config.clone(), 4096);
        let [mut fused, mut parts] = [(); 2].map(|()| filled(&device, shape, capacity, len, dtype));
        let mut outputs = Vec::new();
        for (len, step) in (len..capacity).zip(&steps) {
            let got = step.run(&table, &[len + 3], &[len], &mut fused);
            let expected = step.run_by_parts(&table, len + 3, &mut parts);
            compare(&expected, &got, Tolerance::Bits)
                .unwrap_or_else(|mismatch| panic!("{what}, token {len}: {mismatch}"));
            fused.commit(1).unwrap();
            parts.commit(1).unwrap();
            outputs.extend(got);
        }
        if let Device::Hip(_) = device {
            results.push((device, outputs));
        }
    }
    alike(results.iter().map(|(device, outputs)| (device, &**outputs)), Order::hip(dtype, shape, 1));
}

#[test]
fn a_step_is_its_parts_around_waves_and_chunks() {
    let config = spec(64, 32, Pairing::Interleaved);
    for (index, len) in [0, 1, 30, 31, 32, 33, 62, 63, 64, 65, 126, 127, 128, 129].into_iter().enumerate() {
        check(shape(4, 2, 64), &config, len, len + 2, KV_TYPES[index % 3]);
    }
    for len in [254, 255, 256, 257] {
        check(shape(2, 1, 64), &config, len, 300, KvDType::BF16);
    }
    for len in [1022, 1023, 1024, 1025] {
        check(shape(2, 1, 64), &config, len, 1100, KvDType::BF16);
    }
}

#[test]
fn every_width_rotation_and_group() {
    for (head_dim, rotary_dim, pairing) in [
        (64, 64, Pairing::Halves),
        (80, 40, Pairing::Interleaved),
        (100, 50, Pairing::Halves),
        (128, 64, Pairing::Interleaved),
        (128, 128, Pairing::Halves),
        (129, 2, Pairing::Interleaved),
        (192, 96, Pairing::Halves),
        (256, 256, Pairing::Interleaved),
        (2, 2, Pairing::Halves),
    ] {
        for dtype in KV_TYPES {
            check(shape(6, 2, head_dim), &spec(head_dim, rotary_dim, pairing), 37, 40, dtype);
        }
    }
    for group in [1, 2, 3, 5, 8, 15, 16, 17, 24, 31, 32] {
        let config = spec(32, 16, Pairing::Interleaved);
        check(shape(group * 2, 2, 32), &config, 40, 64, KvDType::BF16);
    }
    check(shape(32, 2, 128), &spec(128, 64, Pairing::Interleaved), 300, 512, KvDType::BF16);
    // Two tiles of heads, and two spans.
    check(shape(20, 1, 64), &spec(64, 32, Pairing::Interleaved), 1030, 2100, KvDType::F16);
}

#[test]
fn it_keeps_the_bound_against_f64() {
    for (q_heads, kv_heads, head_dim, end, dtype) in [
        (32, 2, 128, 130, KvDType::BF16),
        (8, 8, 128, 4400, KvDType::BF16),
        (4, 2, 64, 257, KvDType::F16),
        (5, 1, 80, 1026, KvDType::F32),
    ] {
        let shape = shape(q_heads, kv_heads, head_dim);
        let pass = Pass::new(end.into(), shape, end, 4.0);
        let exact = |device: &Device| pass.exact_from(end - 1, dtype, Order::of(device, dtype, shape, 1));
        for device in devices() {
            let table = table(&device, spec(head_dim, 2, Pairing::Interleaved), 4);
            let mut cache = crate::common::cache(&device, shape, end, dtype);
            pass.tokens(0, end - 1).append_only(&mut cache);
            let Pass { q, k, v, .. } = pass.tokens(end - 1, end);
            let step = Step { shape, sequences: 1, q, k, v, norm: None };
            // At position 0 nothing turns.
            let got = step.run(&table, &[0], &[end - 1], &mut cache);
            let exact = exact(&device);
            compare(&exact.out, &got, Tolerance::Elementwise(&exact.worst)).unwrap();
            compare(&exact.out, &got, Tolerance::Elementwise(&exact.probable)).unwrap();
        }
    }
}

/// Sequences of several lengths, contiguous and in shuffled blocks, packed projections and norms.
#[test]
fn sequences_of_a_batch_are_alone() {
    let lens = [40_u32, 0, 129];
    for (q_heads, kv_heads, head_dim, block_size, dtype) in
        [(4, 2, 64, 16, KvDType::BF16), (17, 1, 40, 1, KvDType::F16), (32, 2, 128, 256, KvDType::F32)]
    {
        let shape = shape(q_heads, kv_heads, head_dim);
        let prompts = lens.map(|len| Pass::new(len.into(), shape, len, 1.0));
        let config = spec(head_dim, head_dim / 2, Pairing::Halves);
        let mut results = Vec::new();
        for (device, step) in devices().into_iter().flat_map(|device| {
            [(device.clone(), Step::new(5, shape, 3)), (device, Step::new(5, shape, 3).normed(8))]
        }) {
            let table = table(&device, config.clone(), 1000);
            let positions = [500, 0, 129];
            let expected = Vec::from_iter((0..3).flat_map(|sequence| {
                let mut cache = crate::common::cache(&device, shape, 200, dtype);
                prompts[sequence as usize].append_only(&mut cache);
                let at = sequence as usize;
                step.of(sequence).run(&table, &positions[at..=at], &lens[at..=at], &mut cache)
            }));
            let each = 130_u32.div_ceil(block_size) + 1;
            let blocks = BlockTable::new(&device, 3 * each, block_size, 3, each).unwrap();
            let mut paged = KvCache::paged(&device, 1, shape, blocks, dtype).unwrap();
            for (sequence, blocks) in (0..).zip(shuffled(3 * each).chunks(each as usize)) {
                paged.assign(sequence, blocks).unwrap();
            }
            let plain = KvCache::for_sequences(&device, 1, shape, 3, 200, dtype).unwrap();
            for mut cache in [plain, paged] {
                for (sequence, prompt) in (0..).zip(&prompts) {
                    prompt.append_to(&mut cache, sequence);
                }
                let got = step.run(&table, &positions, &lens, &mut cache);
                compare(&expected, &got, Tolerance::Bits)
                    .unwrap_or_else(|mismatch| panic!("{device}: {mismatch}"));
                assert_eq!(step.run_packed(&table, &positions, &lens, &mut cache), got);
                cache.commit(1).unwrap();
                assert_eq!(cache.lens(), lens.map(|len| len + 1));
            }
            if let Device::Hip(_) = device {
                results.push((step.norm.is_some(), expected));
            }
        }
        for (normed, result) in &results {
            let (_, first) = results.iter().find(|(other, _)| other == normed).unwrap();
            compare(first, result, Tolerance::Bits).unwrap();
        }
    }
}

impl Step {
    /// From one buffer `[sequences, q_heads + 2 * kv_heads, head_dim]`.
    fn run_packed(
        &self,
        table: &RopeTable,
        positions: &[u32],
        lengths: &[u32],
        cache: &mut KvCache,
    ) -> Vec<f32> {
        let device = cache.device().clone();
        let mut qkv = Vec::new();
        for sequence in 0..self.sequences {
            let Step { q, k, v, .. } = self.of(sequence);
            qkv.extend([q, k, v].concat());
        }
        let (qkv, positions, lengths) = (on(&device, &qkv), on(&device, positions), on(&device, lengths));
        let weights = self.norm.as_ref().map(|norm| norm.each_ref().map(|weight| on(&device, weight)));
        let norm = weights.as_ref().map(|[q_weight, k_weight]| HeadNorm {
            q_weight: q_weight.as_view(),
            k_weight: k_weight.as_view(),
            eps: EPS,
        });
        let mut out = on(&device, &vec![7.0; self.q.len()]);
        let tokens = NewTokens::packed(qkv.as_view(), self.sequences, self.shape).unwrap();
        let mut layer = cache.layer(0).unwrap();
        let (positions, lengths) = (positions.as_view(), lengths.as_view());
        decode_attention(tokens, norm, table, positions, lengths, &mut layer, out.as_view_mut().unwrap())
            .unwrap();
        out.to_host_vec().unwrap()
    }
}

#[test]
#[expect(clippy::cast_possible_truncation, reason = "the one rounding to f32")]
fn heads_are_normed_before_they_turn() {
    let shape = shape(6, 2, 80);
    let step = Step::new(3, shape, 1).normed(4);
    // The same in f64: queries and keys are within 4 units of 2^-24 of it.
    let normed = |rows: &[f32], weight: &[f32]| {
        let scale = |row: &[f32]| {
            let mean = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / 80.0;
            1.0 / (mean + f64::from(EPS)).sqrt()
        };
        let rows = rows.chunks(80).flat_map(|row| {
            let scale = scale(row);
            row.iter().zip(weight).map(move |(&x, &weight)| (f64::from(x) * scale * f64::from(weight)) as f32)
        });
        Vec::from_iter(rows)
    };
    let [q_weight, k_weight] = step.norm.clone().unwrap();
    let by_hand =
        Step { q: normed(&step.q, &q_weight), k: normed(&step.k, &k_weight), norm: None, ..step.clone() };
    for device in devices() {
        let table = table(&device, spec(80, 40, Pairing::Interleaved), 64);
        let run =
            |step: &Step| step.run(&table, &[33], &[30], &mut filled(&device, shape, 31, 30, KvDType::F32));
        // Scores are below 10, so an error of 4 units in each factor moves an output by less than 10 * 16 * 2^-24.
        compare(&run(&by_hand), &run(&step), Tolerance::Absolute(1e-5)).unwrap();
        assert!(
            compare(&run(&Step { norm: None, ..step.clone() }), &run(&step), Tolerance::Absolute(1e-2))
                .is_err()
        );
    }
}

/// The same arguments serve every length: what a recorded launch does when it is replayed.
#[test]
fn lengths_advance_where_the_launch_reads_them() {
    let shape = shape(4, 2, 32);
    for device in gpus() {
        for paged in [false, true] {
            let table = table(&device, spec(32, 16, Pairing::Interleaved), 64);
            let fresh = || match paged {
                false => crate::common::cache(&device, shape, 40, KvDType::F16),
                true => crate::common::paged(&device, shape, 40, 8, KvDType::F16),
            };
            let (mut recorded, mut told) = (fresh(), fresh());
            let prompt = Pass::new(1, shape, 30, 1.0);
            prompt.append_only(&mut recorded);
            prompt.append_only(&mut told);
            let mut counter = on(&device, &[30_u32]);
            for len in 30..40 {
                let step = Step::new(len.into(), shape, 1);
                // `recorded` still says 30 tokens; positions are the lengths.
                counter.as_view_mut().unwrap().copy_from_host(&[len]).unwrap();
                let got = step.run_at(&table, &counter, &counter, &mut recorded);
                compare(&step.run_by_parts(&table, len, &mut told), &got, Tolerance::Bits).unwrap();
                told.commit(1).unwrap();
            }
            assert_eq!(recorded.len(), 30);
            for _ in 30..40 {
                recorded.replayed().unwrap();
                recorded.commit(1).unwrap();
            }
            assert_eq!(recorded.len(), 40);
            assert!(matches!(
                recorded.replayed(),
                Err(AttentionError::Capacity { len: 40, tokens: 1, capacity: 40 })
            ));
            // What was appended is the same.
            recorded.truncate(39).unwrap();
            told.truncate(39).unwrap();
            let last = Step::new(7, shape, 1);
            let expected = last.run_by_parts(&table, 39, &mut told);
            compare(&expected, &last.run_by_parts(&table, 39, &mut recorded), Tolerance::Bits).unwrap();
        }
    }
}

/// The parts can be recorded as well.
#[test]
fn appending_and_attending_read_lengths_too() {
    let shape = shape(6, 2, 40);
    for device in devices() {
        for (paged, lens) in [(false, [33_u32, 7]), (true, [33, 7]), (false, [1024, 300])] {
            let prompts = lens.map(|len| Pass::new(len.into(), shape, len + 1, 2.0));
            let capacity = lens[0] + 7;
            let each = capacity.div_ceil(16);
            let mut cache = if paged {
                let blocks = BlockTable::new(&device, 2 * each, 16, 2, each).unwrap();
                let mut cache = KvCache::paged(&device, 1, shape, blocks, KvDType::BF16).unwrap();
                for (sequence, blocks) in (0..).zip(shuffled(2 * each).chunks(each as usize)) {
                    cache.assign(sequence, blocks).unwrap();
                }
                cache
            } else {
                KvCache::for_sequences(&device, 1, shape, 2, capacity, KvDType::BF16).unwrap()
            };
            let (mut expected, mut step) = (Vec::new(), [Vec::new(), Vec::new(), Vec::new()]);
            for (sequence, (prompt, &len)) in (0..).zip(prompts.iter().zip(&lens)) {
                prompt.tokens(0, len).append_to(&mut cache, sequence);
                let mut alone = crate::common::cache(&device, shape, len + 1, KvDType::BF16);
                prompt.tokens(0, len).append_only(&mut alone);
                let last = prompt.tokens(len, len + 1);
                expected.extend(last.run(&mut alone));
                for (all, part) in step.iter_mut().zip([last.q, last.k, last.v]) {
                    all.extend(part);
                }
            }
            let [q, k, v] = step.map(|values| on(&device, &values));
            let (lengths, mut out) = (on(&device, &lens), on(&device, &vec![7.0; expected.len()]));
            let mut layer = cache.layer(0).unwrap();
            let lengths = lengths.as_view();
            counted(&device, 1, || layer.append_next(k.as_view(), v.as_view(), lengths));
            counted(&device, 1, || attend_next(q.as_view(), lengths, &mut layer, out.as_view_mut().unwrap()));
            compare(&expected, &out.to_host_vec().unwrap(), Tolerance::Bits)
                .unwrap_or_else(|mismatch| panic!("{device}, {lens:?}: {mismatch}"));
        }
    }
}
