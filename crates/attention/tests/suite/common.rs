//! What the tests share: devices, seeded passes and calls.

use attention::{AttentionError, AttentionShape, KvCache, KvDType, attend_with_prefix};
use device_mem::{Device, DeviceBuffer, Element, RanOn};
use kernels_rope::BlockTable;
use parity::{Gpu, uniform};

pub(crate) const KV_TYPES: [KvDType; 3] = [KvDType::F32, KvDType::F16, KvDType::BF16];

/// The devices under test; none is the CPU.
pub(crate) fn gpus() -> Vec<Gpu> {
    parity::devices().unwrap()
}

/// The CPU, and the devices under test.
pub(crate) fn devices() -> Vec<Device> {
    parity::cpu_and_devices().unwrap()
}

pub(crate) fn on<T: Element>(device: &Device, values: &[T]) -> DeviceBuffer<T> {
    DeviceBuffer::from_host_vec(device, values.to_vec()).unwrap()
}

/// Runs an operation, and asserts that on a HIP device it is `launches` launches and nothing else.
pub(crate) fn counted(device: &Device, launches: u64, run: impl FnOnce() -> Result<RanOn, AttentionError>) {
    let before = device.transfers();
    let ran_on = run().unwrap();
    let mut expected = before;
    match device {
        Device::Cpu => assert_eq!(ran_on, RanOn::Cpu),
        Device::Hip(_) => {
            assert_eq!(ran_on, RanOn::Hip);
            expected.launches += launches;
        }
    }
    assert_eq!(device.transfers(), expected, "no copy, no allocation, no wait");
}

pub(crate) fn shape(q_heads: u32, kv_heads: u32, head_dim: u32) -> AttentionShape {
    AttentionShape::new(q_heads, kv_heads, head_dim).unwrap()
}

pub(crate) fn cache(device: &Device, shape: AttentionShape, capacity: u32, dtype: KvDType) -> KvCache {
    KvCache::new(device, 1, shape, capacity, dtype).unwrap()
}

/// `q` `[tokens, q_heads, head_dim]`, `k` and `v` `[tokens, kv_heads, head_dim]`.
#[derive(Clone)]
pub(crate) struct Pass {
    pub(crate) shape: AttentionShape,
    pub(crate) tokens: u32,
    /// Tokens of the sequence that all see.
    pub(crate) prefix: u32,
    pub(crate) q: Vec<f32>,
    pub(crate) k: Vec<f32>,
    pub(crate) v: Vec<f32>,
}

impl Pass {
    /// Uniform in `[-1, 1)`, the queries `q_scale` times that.
    pub(crate) fn new(seed: u64, shape: AttentionShape, tokens: u32, q_scale: f32) -> Pass {
        let (q_len, kv_len) = (shape.q_heads() * shape.head_dim(), shape.kv_heads() * shape.head_dim());
        let len = |row: u32| (tokens * row) as usize;
        let q = uniform::<f32>(seed, len(q_len)).iter().map(|value| value * q_scale).collect();
        let (k, v) = (uniform(seed + 1, len(kv_len)), uniform(seed + 2, len(kv_len)));
        Pass { shape, tokens, prefix: 0, q, k, v }
    }

    /// The tokens of a range alone.
    pub(crate) fn tokens(&self, from: u32, to: u32) -> Pass {
        let part = |values: &[f32], heads: u32| {
            let row = (heads * self.shape.head_dim()) as usize;
            values[from as usize * row..to as usize * row].to_vec()
        };
        let (q_heads, kv_heads) = (self.shape.q_heads(), self.shape.kv_heads());
        let (q, k, v) = (part(&self.q, q_heads), part(&self.k, kv_heads), part(&self.v, kv_heads));
        Pass { tokens: to - from, q, k, v, ..*self }
    }

    /// Appends, attends and commits, on the cache's device.
    pub(crate) fn run(&self, cache: &mut KvCache) -> Vec<f32> {
        self.run_sequence(cache, 0)
    }

    /// The same for a sequence of the cache.
    pub(crate) fn run_sequence(&self, cache: &mut KvCache, sequence: u32) -> Vec<f32> {
        let device = cache.device().clone();
        let (q, k, v) = (on(&device, &self.q), on(&device, &self.k), on(&device, &self.v));
        let mut out = on(&device, &vec![f32::NAN; self.q.len()]);
        let mut layer = cache.layer_of(0, sequence).unwrap();
        let launches = u64::from(self.tokens > 0);
        counted(&device, launches, || layer.append(k.as_view(), v.as_view(), self.tokens));
        counted(&device, launches, || {
            attend_with_prefix(q.as_view(), self.tokens, self.prefix, &mut layer, out.as_view_mut().unwrap())
        });
        cache.commit_sequence(sequence, self.tokens).unwrap();
        out.to_host_vec().unwrap()
    }

    /// Appends and commits, and attends to nothing.
    pub(crate) fn append_only(&self, cache: &mut KvCache) {
        self.append_to(cache, 0);
    }

    /// The same to a sequence of the cache.
    pub(crate) fn append_to(&self, cache: &mut KvCache, sequence: u32) {
        let device = cache.device().clone();
        let (k, v) = (on(&device, &self.k), on(&device, &self.v));
        cache.layer_of(0, sequence).unwrap().append(k.as_view(), v.as_view(), self.tokens).unwrap();
        cache.commit_sequence(sequence, self.tokens).unwrap();
    }

    /// What the whole pass attends to in an empty cache of `dtype`.
    pub(crate) fn run_alone(&self, device: &Device, dtype: KvDType) -> Vec<f32> {
        self.run(&mut cache(device, self.shape, self.tokens, dtype))
    }

    /// What the tokens of this pass attend to, piece by piece, each ending before the next of `ends`.
    pub(crate) fn run_in_pieces(&self, device: &Device, ends: &[u32], dtype: KvDType) -> Vec<f32> {
        let mut cache = cache(device, self.shape, self.tokens, dtype);
        let mut out = Vec::new();
        for &end in ends {
            out.extend(self.tokens(cache.len(), end).run(&mut cache));
            assert_eq!(cache.len(), end);
        }
        out
    }
}

/// Whether the bits of a token are the same in every pass; else passes of 16 tokens and more have their own.
pub(crate) fn passes_agree(device: &Device, dtype: KvDType) -> bool {
    matches!(device, Device::Cpu) || dtype == KvDType::F32
}

/// A cache of one sequence in blocks that lie in no order.
pub(crate) fn paged(
    device: &Device,
    shape: AttentionShape,
    capacity: u32,
    block_size: u32,
    dtype: KvDType,
) -> KvCache {
    let needed = capacity.div_ceil(block_size);
    let blocks = needed + 3;
    let table = BlockTable::new(device, blocks, block_size, 1, needed).unwrap();
    let mut cache = KvCache::paged(device, 1, shape, table, dtype).unwrap();
    cache.assign(0, &shuffled(blocks)[..needed as usize]).unwrap();
    cache
}

/// The numbers below `count` in another order.
pub(crate) fn shuffled(count: u32) -> Vec<u32> {
    let mut numbers = Vec::from_iter(0..count);
    numbers.sort_by_key(|number| number.wrapping_mul(2_654_435_761).rotate_left(11));
    numbers
}

pub(crate) fn in_pool<R: Send>(threads: usize, run: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run)
}
