//! The CPU body on cases of the suite's list: `cargo bench -p attention`. `cargo test` runs each once.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its bench")]

#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "../tests/cases/list.rs"]
mod list;

use std::time::Duration;

use attention::{AttentionShape, KvCache, attend};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use device_mem::{Device, DeviceBuffer, RanOn};
use parity::uniform;

use crate::list::Case;

/// A decoded token behind a thousand others, one with a group of GLM-4's width, prompts over each type of cache, and MLA's
/// shape.
const NAMES: [&str; 6] = [
    "ggml/h4-1/d128/t1+1023/bf16/q1",
    "ggml/h4-1/d256/t1+1023/f32/q1",
    "groups/h16-1/d40/t1+36/f16/q1",
    "ggml/h1-1/d128/t75+38/bf16/q1",
    "lengths/h4-2/d128/t33+95/f32/q1",
    "latent/h16-1/d576/t3+110/bf16/v512/q1",
];

fn attention(criterion: &mut Criterion) {
    let cases = list::cases();
    for name in NAMES {
        let found = cases.iter().find(|case| case.name() == name);
        measure(criterion, found.unwrap_or_else(|| panic!("no case of the suite is called {name}")));
    }
}

fn measure(criterion: &mut Criterion, case: &Case) {
    let &Case { q_heads, kv_heads, head_dim, before, tokens, dtype, .. } = case;
    let shape = AttentionShape::new(q_heads, kv_heads, head_dim).unwrap();
    let uniform = |seed, rows: u32| {
        let values = uniform::<f32>(seed, rows as usize * head_dim as usize);
        DeviceBuffer::from_host_vec(&Device::Cpu, values).unwrap()
    };
    let mut cache = KvCache::new(&Device::Cpu, 1, shape, case.end(), dtype).unwrap();
    let (old_k, old_v) = (uniform(1, before * kv_heads), uniform(2, before * kv_heads));
    cache.layer(0).unwrap().append(old_k.as_view(), old_v.as_view(), before).unwrap();
    cache.commit(before).unwrap();
    let (k, v) = (uniform(3, tokens * kv_heads), uniform(4, tokens * kv_heads));
    cache.layer(0).unwrap().append(k.as_view(), v.as_view(), tokens).unwrap();
    let (q, mut out) = (uniform(5, tokens * q_heads), uniform(6, tokens * q_heads));
    let mut run = || attend(q.as_view(), tokens, &mut cache.layer(0)?, out.as_view_mut()?);
    // Queries, heads and keys that they see.
    let pairs: u32 = (before + 1..=case.end()).sum();
    let mut group = criterion.benchmark_group("attention");
    group.throughput(Throughput::Elements(u64::from(pairs) * u64::from(q_heads) * u64::from(head_dim)));
    group.bench_function(BenchmarkId::from_parameter(case.name()), |bencher| {
        bencher.iter(|| assert_eq!(run().unwrap(), RanOn::Cpu));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = attention
}
criterion_main!(benches);
