//! Runs one case on the CPU and on every device.

use std::collections::BTreeMap;

use device_mem::{DType, Device, DeviceBuffer, Element, Float, RanOn};
use half::{bf16, f16};
use kernels_nn::{
    Linear, NnError, RmsNorm, SamplerConfig, Weight, add_rms_norm, linear, rms_norm, rms_norm_in_place,
    sample, swiglu,
};
use parity::{Gpu, SplitMix64, Suite, Tally, Tolerance, compare, matrix_units, named_devices, uniform};

use crate::list::{Case, Operation};
use crate::truth::{self, Exact};

/// Not what any operation leaves.
const UNWRITTEN: f32 = -77.25;

/// Runs cases one after another, on devices of its own.
pub(crate) struct Worker<'a> {
    suite: &'a Suite,
    devices: Vec<(String, Gpu)>,
    pub(crate) tally: Tally,
}

/// What a case is given: rows, a second operand of the same size, a weight, a bias.
struct Operands {
    x: Vec<f32>,
    other: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl<'a> Worker<'a> {
    pub(crate) fn new(suite: &'a Suite) -> Worker<'a> {
        let devices = named_devices().unwrap();
        let names = Vec::from_iter(devices.iter().map(|(name, _)| name.clone()));
        Worker { suite, devices, tally: Tally::new([vec!["cpu".to_owned()], names].concat()) }
    }

    /// Runs a case on the CPU and on the devices that are wanted by name.
    pub(crate) fn run(&mut self, case: &Case, name: &str, wanted: impl Fn(&str) -> bool) {
        match self.checked(case, self.suite.case_seed(name), wanted) {
            Ok(ran) => {
                for (device, ran) in ran.into_iter().enumerate() {
                    if ran { self.tally.passed(device) } else { self.tally.not_run(device) }
                }
            }
            Err(what) => self.tally.failed(self.suite.failure(name, &what)),
        }
    }

    /// On which of the CPU and the devices it ran, or what is wrong.
    fn checked(&self, case: &Case, seed: u64, wanted: impl Fn(&str) -> bool) -> Result<Vec<bool>, String> {
        let operands = Operands::new(case, seed);
        let on_cpu = results(case, &operands, &Device::Cpu);
        holds(case, &operands, &Device::Cpu, &on_cpu).map_err(|what| format!("cpu: {what}"))?;
        // Products have an order of sums for each kind of device; everything else has one.
        let products = matches!(case.operation, Operation::Linear { .. });
        let mut firsts = BTreeMap::new();
        let mut ran = vec![true];
        for (name, device) in &self.devices {
            ran.push(wanted(name));
            if !wanted(name) {
                continue;
            }
            let got = results(case, &operands, device);
            holds(case, &operands, device, &got).map_err(|what| format!("{name}: {what}"))?;
            let first = if products {
                firsts.entry(matrix_units(device)).or_insert_with(|| got.clone())
            } else {
                &on_cpu
            };
            for (first, got) in first.iter().zip(&got) {
                compare(first, got, Tolerance::Bits)
                    .map_err(|mismatch| format!("{name} and another device: {mismatch}"))?;
            }
        }
        Ok(ran)
    }
}

impl Operands {
    fn new(case: &Case, seed: u64) -> Operands {
        let values = |turn: u64, len: usize| uniform::<f32>(seed.wrapping_add(turn), len);
        let scaled = |turn: u64, len: usize| {
            Vec::from_iter(values(turn, len).into_iter().map(|value| value * case.magnitude))
        };
        let Case { rows, width, .. } = *case;
        let (len, weight, bias) = match case.operation {
            Operation::Linear { out_features, biased, .. } => {
                (rows * width, out_features * width, if biased { out_features } else { 0 })
            }
            Operation::SwiGlu => (2 * rows * width, 0, 0),
            _ => (rows * width, width, 0),
        };
        Operands {
            x: scaled(0, len),
            other: scaled(1, len),
            weight: values(2, weight),
            bias: scaled(3, bias),
        }
    }
}

fn on<T: Element>(device: &Device, values: &[T]) -> DeviceBuffer<T> {
    DeviceBuffer::from_host_vec(device, values.to_vec()).unwrap()
}

fn unwritten(device: &Device, len: usize) -> DeviceBuffer<f32> {
    on(device, &vec![UNWRITTEN; len])
}

/// Runs an operation, and asserts that on a HIP device it is one launch and nothing else.
fn counted(device: &Device, run: impl FnOnce() -> Result<RanOn, NnError>) {
    let mut expected = device.transfers();
    let ran_on = run().unwrap();
    match device {
        Device::Cpu => assert_eq!(ran_on, RanOn::Cpu),
        Device::Hip(_) => {
            assert_eq!(ran_on, RanOn::Hip);
            expected.launches += 1;
        }
    }
    assert_eq!(device.transfers(), expected, "one launch: no copy, no allocation, no wait");
}

/// What the operation leaves on a device, in place and out of place where it has both.
fn results(case: &Case, operands: &Operands, device: &Device) -> Vec<Vec<f32>> {
    let Operands { x: values, other, weight, bias } = operands;
    let x = || on(device, values);
    match case.operation {
        Operation::Linear { out_features, dtype, .. } => {
            let bias = (!bias.is_empty()).then(|| on(device, bias));
            let weight = stored(device, dtype, weight).0;
            let layer = Linear::new(weight, bias, out_features, case.width).unwrap();
            let (x, mut out) = (x(), unwritten(device, case.rows * out_features));
            counted(device, || linear(x.as_view(), &layer, out.as_view_mut().unwrap()));
            vec![out.to_host_vec().unwrap()]
        }
        Operation::Norm { eps } => {
            let norm = RmsNorm::new(on(device, weight), eps).unwrap();
            let (mut x, mut out) = (x(), unwritten(device, values.len()));
            counted(device, || rms_norm(x.as_view(), &norm, out.as_view_mut().unwrap()));
            counted(device, || rms_norm_in_place(x.as_view_mut().unwrap(), &norm));
            vec![out.to_host_vec().unwrap(), x.to_host_vec().unwrap()]
        }
        Operation::AddNorm { eps } => {
            let norm = RmsNorm::new(on(device, weight), eps).unwrap();
            let (mut x, branch, mut out) = (x(), on(device, other), unwritten(device, values.len()));
            counted(device, || {
                let (x, out) = (x.as_view_mut().unwrap(), out.as_view_mut().unwrap());
                add_rms_norm(x, branch.as_view(), None, &norm, out)
            });
            vec![x.to_host_vec().unwrap(), out.to_host_vec().unwrap()]
        }
        Operation::SwiGlu => {
            let (x, mut out) = (x(), unwritten(device, values.len() / 2));
            counted(device, || swiglu(x.as_view(), case.width, out.as_view_mut().unwrap()));
            vec![out.to_host_vec().unwrap()]
        }
        Operation::Sample(config) => vec![sampled(case, config, &x(), device)],
    }
}

/// The token of each row, exactly as f32, for no vocabulary reaches 2^24.
fn sampled(case: &Case, config: SamplerConfig, logits: &DeviceBuffer<f32>, device: &Device) -> Vec<f32> {
    let mut random = SplitMix64::new(case.width as u64);
    let draws = Vec::from_iter((0..4 * case.rows).map(|_| random.below(u32::MAX)));
    let (mut state, mut tokens) = (on(device, &draws), on(device, &vec![u32::MAX; case.rows]));
    counted(device, || {
        let (state, tokens) = (state.as_view_mut().unwrap(), tokens.as_view_mut().unwrap());
        sample(logits.as_view(), case.width, &config, state, tokens)
    });
    tokens.to_host_vec().unwrap().iter().map(|&token| token as f32).collect()
}

/// Whether results are what the operation documents for the device.
fn holds(case: &Case, operands: &Operands, device: &Device, got: &[Vec<f32>]) -> Result<(), String> {
    let Operands { x, other, weight, bias } = operands;
    let within = |Exact { values, bounds }: &Exact, got: &[f32]| {
        compare(values, got, Tolerance::Elementwise(bounds))
            .map(drop)
            .map_err(|mismatch| mismatch.to_string())
    };
    match case.operation {
        Operation::Linear { out_features, dtype, .. } => {
            let no_bias = vec![0.0; out_features];
            let bias = if bias.is_empty() { &no_bias } else { bias };
            let exact = stored(&Device::Cpu, dtype, weight).1;
            within(&truth::linear(x, &exact, bias, dtype, device), &got[0])
        }
        Operation::Norm { eps } => {
            let exact = truth::norm(x, weight, eps);
            got.iter().try_for_each(|got| within(&exact, got))
        }
        Operation::AddNorm { eps } => {
            let sums = Vec::from_iter(x.iter().zip(other).map(|(x, y)| x + y));
            compare(&sums, &got[0], Tolerance::Bits).map_err(|mismatch| format!("sum: {mismatch}"))?;
            within(&truth::norm(&sums, weight, eps), &got[1])
        }
        Operation::SwiGlu => within(&truth::swiglu(x, case.width), &got[0]),
        Operation::Sample(config) => {
            let chosen = x.chunks_exact(case.width).zip(&got[0]);
            let wrong = chosen.enumerate().find(|(_, (row, token))| !truth::allows(&config, row, **token));
            wrong.map_or(Ok(()), |(row, (_, token))| {
                Err(format!("row {row}: the rule leaves no token {token}"))
            })
        }
    }
}

/// A weight of `dtype`, and what it holds.
fn stored(device: &Device, dtype: DType, values: &[f32]) -> (Weight, Vec<f64>) {
    match dtype {
        DType::F32 => stored_as(device, values, Weight::F32),
        DType::F16 => stored_as::<f16>(device, values, Weight::F16),
        DType::BF16 => stored_as::<bf16>(device, values, Weight::BF16),
        other => panic!("no weight is {other}"),
    }
}

fn stored_as<T: Float>(
    device: &Device,
    values: &[f32],
    wrap: fn(DeviceBuffer<T>) -> Weight,
) -> (Weight, Vec<f64>) {
    let rounded = Vec::from_iter(values.iter().map(|&value| T::from_f32(value)));
    (wrap(on(device, &rounded)), rounded.iter().map(|value| f64::from(value.to_f32())).collect())
}
