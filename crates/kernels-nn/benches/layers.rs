//! The CPU bodies on cases of the suite's list: `cargo bench -p kernels-nn`. `cargo test` runs each once.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its bench")]

#[path = "../tests/cases/list.rs"]
mod list;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use device_mem::{DType, Device, DeviceBuffer, Element, RanOn};
use half::{bf16, f16};
use kernels_nn::{Linear, NnError, RmsNorm, Weight, add_rms_norm, linear, rms_norm, sample, swiglu};
use parity::uniform;

use crate::list::{Case, Operation};

/// A token and a tile of tokens by each type of weight, GLM-4's norm, the residual connection, SwiGLU, and a drawn token.
const NAMES: [&str; 8] = [
    "linear/bf16/o2/1x2049/m1e0",
    "linear/f32/o33/65x257/m1e0",
    "linear/f16/o33/65x257/m1e0",
    "linear/bf16/o33/65x257/m1e0",
    "norm/3x4096/m1e0/eps1e-5",
    "add-norm/3x4096/m1e0/eps1e-5",
    "swiglu/3x4097/m1e0",
    "sample/3x8193/m1.2e1/t9.5e-1/k50/p7e-1",
];

fn layers(criterion: &mut Criterion) {
    let cases = list::cases();
    for name in NAMES {
        let found = cases.iter().find(|case| case.name() == name);
        measure(criterion, found.unwrap_or_else(|| panic!("no case of the suite is called {name}")));
    }
}

fn on_cpu<T: Element>(values: Vec<T>) -> DeviceBuffer<T> {
    DeviceBuffer::from_host_vec(&Device::Cpu, values).unwrap()
}

fn weight(dtype: DType, len: usize) -> Weight {
    match dtype {
        DType::F32 => Weight::F32(on_cpu(uniform::<f32>(2, len))),
        DType::F16 => Weight::F16(on_cpu(uniform::<f16>(2, len))),
        DType::BF16 => Weight::BF16(on_cpu(uniform::<bf16>(2, len))),
        other => panic!("no weight is {other}"),
    }
}

fn measure(criterion: &mut Criterion, case: &Case) {
    let &Case { operation, rows, width, magnitude } = case;
    let values =
        |seed, len| on_cpu(uniform::<f32>(seed, len).into_iter().map(|value| value * magnitude).collect());
    let zeros = |len| on_cpu(vec![0.0_f32; len]);
    let norm = |eps| RmsNorm::new(on_cpu(uniform::<f32>(2, width)), eps).unwrap();
    let (mut x, branch) = (values(1, 2 * rows * width), values(3, rows * width));
    let half = 0..rows * width;
    let elements = match operation {
        Operation::Linear { out_features, .. } => rows * width * out_features,
        _ => rows * width,
    };
    let mut run: Box<dyn FnMut() -> Result<RanOn, NnError>> = match operation {
        Operation::Linear { out_features, dtype, .. } => {
            let layer = Linear::new(weight(dtype, out_features * width), None, out_features, width).unwrap();
            let mut out = zeros(rows * out_features);
            Box::new(move || linear(x.view(half.clone())?, &layer, out.as_view_mut()?))
        }
        Operation::Norm { eps } => {
            let (norm, mut out) = (norm(eps), zeros(rows * width));
            Box::new(move || rms_norm(x.view(half.clone())?, &norm, out.as_view_mut()?))
        }
        Operation::AddNorm { eps } => {
            let (norm, mut out) = (norm(eps), zeros(rows * width));
            Box::new(move || {
                add_rms_norm(x.view_mut(half.clone())?, branch.as_view(), None, &norm, out.as_view_mut()?)
            })
        }
        Operation::SwiGlu => {
            let mut out = zeros(rows * width);
            Box::new(move || swiglu(x.as_view(), width, out.as_view_mut()?))
        }
        Operation::Sample(config) => {
            let (mut draws, mut tokens) = (on_cpu(vec![7_u32; 4 * rows]), on_cpu(vec![0_u32; rows]));
            Box::new(move || {
                sample(x.view(half.clone())?, width, &config, draws.as_view_mut()?, tokens.as_view_mut()?)
            })
        }
    };
    let mut group = criterion.benchmark_group("layers");
    group.throughput(Throughput::Elements(elements as u64));
    group.bench_function(BenchmarkId::from_parameter(case.name()), |bencher| {
        bencher.iter(|| assert_eq!(run().unwrap(), RanOn::Cpu));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = layers
}
criterion_main!(benches);
