//! The CPU body on cases of the suite's list: `cargo bench -p kernels-rope`. `cargo test` runs each once.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its bench")]

#[path = "../tests/suite/cases/mod.rs"]
mod cases;
#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "../tests/suite/operands.rs"]
mod operands;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use device_mem::{DType, Device, DeviceBuffer, Float, RanOn};
use half::{bf16, f16};
use kernels_rope::{
    AppendKv, RopeSpec, RopeTable, apply_position_embeddings, apply_position_embeddings_append, apply_rope,
};

use crate::cases::{Case, Form};
use crate::operands::{Operands, heads, positions};

/// A decoded token of GLM-4-9B and its append, a prompt's worth of small heads, FlashInfer's widest packed row, strided rows
/// of f16, the widest head there is, and M-RoPE.
const NAMES: [&str; 7] = [
    "models/interleaved-plain/d128-r64-b1e4/n2048/t1-q32-k2/f32/at0/contiguous/pair",
    "models/interleaved-plain/d128-r64-b1e4/n2048/t1-q32-k2/bf16/at0/contiguous/append-bf16-one-0-gap0",
    "many/interleaved-plain/d16-r16-b1e4/n4096/t8192-q16-k0/f32/below4096/contiguous/rotate",
    "flashinfer-rope/interleaved-llama31/d256-r256-b5e5/n303/t2-q16-k8/f16/batch989x204-from99/packed/pair",
    "views/halves-plain/d128-r64-b1e4/n4096/t19-q4-k2/f16/below4096/odd/rotate",
    "models/halves-yarn/d1024-r1024-b1e4/n2048/t3-q1-k1/bf16/below2048/contiguous/rotate",
    "axes/halves-plain-sections8+12+12/d128-r64-b1e4/n4096/t5-q4-k2/f32/below4096/contiguous/pair",
];

/// Data of every case are drawn by its place in the list.
fn rope(criterion: &mut Criterion) {
    let cases = cases::all(0);
    for (seed, name) in (0..).zip(NAMES) {
        let found = cases.iter().find(|case| case.name() == name);
        let case = found.unwrap_or_else(|| panic!("no case of the suite is called {name}"));
        match case.dtype {
            DType::F32 => measure::<f32>(criterion, case, seed),
            DType::F16 => measure::<f16>(criterion, case, seed),
            _ => measure::<bf16>(criterion, case, seed),
        }
    }
}

/// Rotates the same buffers over and over, which keeps the norms of their pairs.
fn measure<T: Float>(criterion: &mut Criterion, case: &Case, seed: u64) {
    let spec = RopeSpec::new(case.rotary.config.clone()).unwrap();
    let table = RopeTable::new(&spec, case.length, &Device::Cpu).unwrap();
    let operands = Operands::<T>::new(case, spec.axes().count(), seed);
    let at = positions(case, &table, &operands.positions).unwrap();
    let on_cpu = |values: &[T]| DeviceBuffer::from_host_vec(&Device::Cpu, values.to_vec()).unwrap();
    let (mut q, mut k, v) = (on_cpu(&operands.q), on_cpu(&operands.k), on_cpu(&operands.v));
    let cached = vec![T::from_f32(0.0); operands.cache.as_ref().map_or(0, operands::CachePlan::len)];
    let (mut keys, mut values) = (on_cpu(&cached), on_cpu(&cached));
    let mut run = || {
        let q = heads(&mut q, &operands.q_place)?;
        match (case.form, &operands.cache) {
            (Form::Rotate, _) => apply_rope(&table, q, &at),
            (_, None) => apply_position_embeddings(&table, q, heads(&mut k, &operands.k_place)?, &at),
            (_, Some(plan)) => {
                let (keys, values) = (keys.as_view_mut()?, values.as_view_mut()?);
                let append = AppendKv::new(v.as_view(), keys, values, plan.layout, 0)?;
                apply_position_embeddings_append(&table, q, heads(&mut k, &operands.k_place)?, append, &at)
            }
        }
    };
    let mut group = criterion.benchmark_group("rope");
    group.throughput(Throughput::Elements(case.elements()));
    group.bench_function(BenchmarkId::from_parameter(case.name()), |bencher| {
        bencher.iter(|| assert_eq!(run().unwrap(), RanOn::Cpu));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = rope
}
criterion_main!(benches);
