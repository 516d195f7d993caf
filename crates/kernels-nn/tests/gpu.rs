//! The GPU path on every device that `PARITY_DEVICES` lists: by default the kernels' sources compiled for the host, and the
//! images executed by the emulator. All but `linear` equal the CPU bit for bit; `linear` is the same on every device and
//! within its bound of f64. Every test asserts that kernels were launched; nothing here passes on the CPU body.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

use std::ffi::CString;

use device_mem::{Device, DeviceBuffer, Element, Float, MemError, RanOn, Transfers};
use half::{bf16, f16};
use hsaco::ImageSet;
use kernels_nn::kernels::{ADD, ADD_RMS_NORM, ARGMAX, EMBEDDING, LINEAR, RMS_NORM, SWIGLU};
use kernels_nn::{
    Embedding, Linear, NO_TOKEN, NnError, RmsNorm, Weight, add, add_rms_norm, argmax, embed, linear,
    rms_norm, swiglu,
};
use parity::{SplitMix64, Tolerance, compare, host_hip_has, uniform, uniform_with_special};
use proptest::prelude::*;

const SETS: [&ImageSet; 7] = [&EMBEDDING, &RMS_NORM, &ADD_RMS_NORM, &SWIGLU, &ADD, &LINEAR, &ARGMAX];
/// Half the distance from 1 to the next f32.
const U: f64 = 5.960_464_477_539_063e-8;

/// The devices under test; none is the CPU.
fn gpus() -> Vec<Device> {
    parity::devices().unwrap()
}

fn gpu() -> Device {
    gpus().swap_remove(0)
}

fn on<T: Element>(device: &Device, values: &[T]) -> DeviceBuffer<T> {
    DeviceBuffer::from_host_vec(device, values.to_vec()).unwrap()
}

/// Not zeros, so that an element that is not written shows.
fn unwritten(device: &Device, len: usize) -> DeviceBuffer<f32> {
    on(device, &vec![-77.25; len])
}

/// Runs an operation, and asserts that on a HIP device it is one launch and nothing else.
fn counted(device: &Device, run: impl FnOnce() -> Result<RanOn, NnError>) {
    let before = device.transfers();
    let ran_on = run().unwrap();
    let mut expected = before;
    match device {
        Device::Cpu => assert_eq!(ran_on, RanOn::Cpu),
        Device::Hip(_) => {
            assert_eq!(ran_on, RanOn::Hip);
            expected.launches += 1;
        }
    }
    assert_eq!(device.transfers(), expected, "one launch: no copy, no allocation, no wait");
}

/// Runs on the CPU and on every device, and compares all bits.
#[track_caller]
fn all_agree<T: parity::Number>(what: &str, run: impl Fn(&Device) -> Vec<T>) {
    let cpu = run(&Device::Cpu);
    for device in gpus() {
        compare(&cpu, &run(&device), Tolerance::Bits)
            .unwrap_or_else(|mismatch| panic!("{what} on {device:?}: {mismatch}"));
    }
}

#[track_caller]
fn unchanged<T: Float>(buffer: &DeviceBuffer<T>, values: &[T]) {
    compare(
        &values.iter().map(|value| value.to_f32()).collect::<Vec<_>>(),
        &buffer.to_host_vec().unwrap().iter().map(|value| value.to_f32()).collect::<Vec<_>>(),
        Tolerance::Bits,
    )
    .unwrap();
}

#[test]
fn every_declared_kernel_has_a_host_twin() {
    for symbol in SETS.iter().flat_map(|set| set.decl.symbols) {
        assert!(host_hip_has(&CString::new(*symbol).unwrap()), "{symbol} is not in host_kernels.cpp");
    }
}

fn embedded<T: Float>(
    device: &Device,
    wrap: fn(DeviceBuffer<T>) -> Weight,
    table: &[T],
    ids: &[u32],
) -> Vec<f32> {
    const VOCAB: usize = 7;
    let hidden = table.len() / VOCAB;
    let embedding = Embedding::new(wrap(on(device, table)), VOCAB, hidden).unwrap();
    let (ids, mut out) = (on(device, ids), unwritten(device, ids.len() * hidden));
    counted(device, || embed(&embedding, ids.as_view(), out.as_view_mut().unwrap()));
    out.to_host_vec().unwrap()
}

#[test]
fn embedded_rows_are_equal_bit_for_bit() {
    let ids = [6_u32, 0, 3, 3];
    for hidden in [1, 31, 255, 256, 257, 600] {
        let what = format!("hidden {hidden}");
        let f32s = uniform_with_special::<f32>(1, 7 * hidden);
        let f16s = uniform_with_special::<f16>(2, 7 * hidden);
        let bf16s = uniform_with_special::<bf16>(3, 7 * hidden);
        all_agree(&what, |device| embedded(device, Weight::F32, &f32s, &ids));
        all_agree(&what, |device| embedded(device, Weight::F16, &f16s, &ids));
        all_agree(&what, |device| embedded(device, Weight::BF16, &bf16s, &ids));
    }
}

#[test]
fn an_id_outside_the_vocabulary_gives_nan_and_reads_nothing() {
    for device in gpus() {
        let table = uniform::<f32>(1, 7 * 3);
        let out = embedded(&device, Weight::F32, &table, &[6, 7, u32::MAX, 0]);
        assert_eq!((&out[..3], &out[9..]), (&table[18..], &table[..3]));
        assert!(out[3..9].iter().all(|value| value.is_nan()), "{out:?}");
    }
}

#[test]
fn sums_are_equal_bit_for_bit() {
    for len in [1, 31, 255, 256, 257, 70_001] {
        let (x, y) = (uniform_with_special::<f32>(5, len), uniform_with_special::<f32>(6, len));
        all_agree(&format!("len {len}"), |device| {
            let (mut sum, y_buffer) = (on(device, &x), on(device, &y));
            counted(device, || add(sum.as_view_mut().unwrap(), y_buffer.as_view()));
            unchanged(&y_buffer, &y);
            sum.to_host_vec().unwrap()
        });
    }
}

fn gated_agree(gate_up: &[f32], ff: usize) {
    all_agree(&format!("ff {ff}, {} elements", gate_up.len()), |device| {
        let (x, mut out) = (on(device, gate_up), unwritten(device, gate_up.len() / 2));
        counted(device, || swiglu(x.as_view(), ff, out.as_view_mut().unwrap()));
        unchanged(&x, gate_up);
        out.to_host_vec().unwrap()
    });
}

#[test]
fn gated_rows_are_equal_bit_for_bit() {
    for ff in [1, 31, 32, 33, 255, 256, 257, 1000] {
        for magnitude in [1.0, 20.0, 100.0] {
            let values = uniform_with_special::<f32>(4, 3 * 2 * ff);
            gated_agree(&Vec::from_iter(values.iter().map(|value| value * magnitude)), ff);
        }
    }
    // Gates through all exponents, and around the end of the exponential.
    let gates = (0..=u32::MAX).step_by(1 << 20).map(f32::from_bits);
    let ends = (0..2000_u32).map(|step| -f32::from_bits(87.336_54_f32.to_bits() - 1000 + step));
    let gates = Vec::from_iter(gates.chain(ends));
    let ff = gates.len();
    gated_agree(&[gates, vec![1.0; ff]].concat(), ff);
}

fn norm_on(device: &Device, seed: u64, width: usize, eps: f32) -> RmsNorm {
    RmsNorm::new(on(device, &uniform::<f32>(seed, width)), eps).unwrap()
}

fn norms_agree(x: &[f32], width: usize, eps: f32) {
    all_agree(&format!("width {width}, {} elements", x.len()), |device| {
        let norm = norm_on(device, 2, width, eps);
        let (x_buffer, mut out) = (on(device, x), unwritten(device, x.len()));
        counted(device, || rms_norm(x_buffer.as_view(), &norm, out.as_view_mut().unwrap()));
        unchanged(&x_buffer, x);
        out.to_host_vec().unwrap()
    });
}

/// Around the sizes of a wave, a block, and what a block keeps of a row.
const WIDTHS: [usize; 16] = [1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 257, 4095, 4096, 4609];

#[test]
fn normed_rows_are_equal_bit_for_bit() {
    for width in WIDTHS {
        for magnitude in [1e-30, 3.0, 1e30] {
            let x = Vec::from_iter(uniform::<f32>(1, 3 * width).iter().map(|value| value * magnitude));
            norms_agree(&x, width, 1.5625e-7);
        }
        norms_agree(&uniform_with_special(3, 3 * width), width, 1e-5);
    }
    // Heads [tokens, heads, head_dim], zeros without epsilon, and squares that add up to the largest.
    norms_agree(&uniform(4, 5 * 34 * 128), 128, 1e-6);
    norms_agree(&[0.0; 8], 4, 0.0);
    norms_agree(&[f32::MAX; 300], 300, 0.0);
}

#[test]
fn adding_and_norming_at_once_gives_the_bits_of_one_after_the_other() {
    for width in WIDTHS {
        for (x, branch) in [
            (uniform::<f32>(1, 2 * width), uniform::<f32>(2, 2 * width)),
            (uniform_with_special(3, 2 * width), uniform_with_special(4, 2 * width)),
        ] {
            for branch_normed in [false, true] {
                all_agree(&format!("width {width}"), |device| {
                    let norm = norm_on(device, 5, width, 1e-5);
                    let branch_norm = branch_normed.then(|| norm_on(device, 6, width, 1e-6));
                    let (branch_buffer, mut x_buffer) = (on(device, &branch), on(device, &x));
                    let mut out = unwritten(device, x.len());
                    counted(device, || {
                        let (x, out) = (x_buffer.as_view_mut().unwrap(), out.as_view_mut().unwrap());
                        add_rms_norm(x, branch_buffer.as_view(), branch_norm.as_ref(), &norm, out)
                    });
                    unchanged(&branch_buffer, &branch);
                    let parts = added_then_normed(device, &x, &branch, branch_norm.as_ref(), &norm);
                    unchanged(&x_buffer, &parts.0);
                    unchanged(&out, &parts.1);
                    [parts.0, parts.1].concat()
                });
            }
        }
    }
}

fn added_then_normed(
    device: &Device,
    x: &[f32],
    branch: &[f32],
    branch_norm: Option<&RmsNorm>,
    norm: &RmsNorm,
) -> (Vec<f32>, Vec<f32>) {
    let (mut x, mut out) = (on(device, x), unwritten(device, x.len()));
    let mut branch = on(device, branch);
    if let Some(branch_norm) = branch_norm {
        let mut normed = unwritten(device, x.len());
        rms_norm(branch.as_view(), branch_norm, normed.as_view_mut().unwrap()).unwrap();
        branch = normed;
    }
    add(x.as_view_mut().unwrap(), branch.as_view()).unwrap();
    rms_norm(x.as_view(), norm, out.as_view_mut().unwrap()).unwrap();
    (x.to_host_vec().unwrap(), out.to_host_vec().unwrap())
}

fn maxima_agree(logits: &[f32], vocab: usize) -> Vec<u32> {
    let find = |device: &Device| {
        let rows = logits.len() / vocab;
        let (buffer, mut tokens) = (on(device, logits), on(device, &vec![0xdead_u32; rows]));
        counted(device, || argmax(buffer.as_view(), vocab, tokens.as_view_mut().unwrap()));
        unchanged(&buffer, logits);
        tokens.to_host_vec().unwrap()
    };
    let cpu = find(&Device::Cpu);
    for device in gpus() {
        assert_eq!(cpu, find(&device), "vocab {vocab} on {device:?}");
    }
    cpu
}

#[test]
fn first_maxima_are_equal() {
    for vocab in [1, 2, 31, 32, 33, 255, 1023, 1024, 1025, 9000] {
        let mut logits = uniform::<f32>(8, 4 * vocab);
        // Coarse, so that many tie; below zero; and rows of one value.
        logits[vocab..2 * vocab].iter_mut().for_each(|logit| *logit = (*logit * 2.0).round());
        logits[2 * vocab..3 * vocab].iter_mut().for_each(|logit| *logit -= 1e30);
        logits[3 * vocab..].fill(-0.0);
        logits[4 * vocab - 1] = 0.0;
        let tokens = maxima_agree(&logits, vocab);
        assert_eq!(tokens[3], 0, "zeros of either sign are equal");
    }
}

#[test]
fn a_row_without_a_choice_gives_no_token() {
    for vocab in [3, 700, 3000] {
        for at in [0, vocab / 2, vocab - 1] {
            let mut rows = [(); 5].map(|()| uniform::<f32>(9, vocab));
            rows[0][at] = f32::NAN;
            rows[1][at] = f32::INFINITY;
            rows[2].fill(f32::NEG_INFINITY);
            rows[3].fill(f32::NEG_INFINITY);
            rows[3][at] = f32::MIN;
            rows[4][at] = -f32::NAN;
            let found = u32::try_from(at).unwrap();
            assert_eq!(maxima_agree(&rows.concat(), vocab), [NO_TOKEN, NO_TOKEN, NO_TOKEN, found, NO_TOKEN]);
        }
    }
}

/// A linear layer with its data, and what it must give within which bounds.
struct Layer<T: Float> {
    x: Vec<f32>,
    weight: Vec<T>,
    bias: Option<Vec<f32>>,
    out_features: usize,
    in_features: usize,
    wrap: fn(DeviceBuffer<T>) -> Weight,
}

impl<T: Float> Layer<T> {
    fn new(
        (tokens, out_features, in_features): (usize, usize, usize),
        wrap: fn(DeviceBuffer<T>) -> Weight,
    ) -> Layer<T> {
        Layer {
            x: uniform(1, tokens * in_features),
            weight: uniform(2, out_features * in_features),
            bias: (tokens % 2 == 1).then(|| uniform(3, out_features)),
            out_features,
            in_features,
            wrap,
        }
    }

    /// The result of a device, with `x` starting `offset` elements into its buffer.
    fn run(&self, device: &Device, offset: usize) -> Vec<f32> {
        let weight = (self.wrap)(on(device, &self.weight));
        let bias = self.bias.as_ref().map(|bias| on(device, bias));
        let layer = Linear::new(weight, bias, self.out_features, self.in_features).unwrap();
        let shifted = [vec![f32::NAN; offset], self.x.clone()].concat();
        let x = on(device, &shifted);
        let mut out = unwritten(device, self.x.len() / self.in_features * self.out_features);
        let view = x.view(offset..shifted.len()).unwrap();
        counted(device, || linear(view, &layer, out.as_view_mut().unwrap()));
        unchanged(&x, &shifted);
        out.to_host_vec().unwrap()
    }

    /// The f64 results, and the bounds that `linear` documents for HIP devices.
    fn exact(&self) -> (Vec<f64>, Vec<f64>) {
        let lanes = if self.out_features < 1 << 14 { 256 } else { 32 };
        let roundings = 8 * self.in_features.div_ceil(8 * lanes) + lanes.ilog2() as usize + 1;
        let gamma = roundings as f64 * U / (1.0 - roundings as f64 * U);
        let (mut exact, mut bounds) = (Vec::new(), Vec::new());
        for x in self.x.chunks_exact(self.in_features) {
            for (row, weights) in self.weight.chunks_exact(self.in_features).enumerate() {
                let products = || weights.iter().zip(x).map(|(w, &x)| f64::from(w.to_f32()) * f64::from(x));
                let bias = self.bias.as_ref().map_or(0.0, |bias| f64::from(bias[row]));
                exact.push(products().sum::<f64>() + bias);
                bounds.push(gamma * (products().map(f64::abs).sum::<f64>() + bias.abs()));
            }
        }
        (exact, bounds)
    }

    /// Every device is within the bound, and all have the same bits.
    fn check(&self) {
        let what = format!("[{}, {}] x {}", self.out_features, self.in_features, self.x.len());
        let (exact, bounds) = self.exact();
        let devices = gpus();
        let results = Vec::from_iter(devices.iter().map(|device| self.run(device, 0)));
        for (device, result) in devices.iter().zip(&results) {
            compare(&exact, result, Tolerance::Elementwise(&bounds))
                .unwrap_or_else(|mismatch| panic!("{what} on {device:?}: {mismatch}"));
            compare(&results[0], result, Tolerance::Bits)
                .unwrap_or_else(|mismatch| panic!("{what} on {device:?} and {:?}: {mismatch}", devices[0]));
        }
    }
}

/// Around the tiles of tokens (1, 4, 8), of rows (4, 32), chunks (8), groups (256) and blocks (2048) of elements.
const SHAPES: [(usize, usize, usize); 16] = [
    (1, 1, 1),
    (2, 3, 7),
    (3, 4, 8),
    (4, 5, 9),
    (5, 7, 63),
    (7, 8, 64),
    (8, 9, 65),
    (9, 31, 255),
    (1, 32, 256),
    (1, 33, 257),
    (16, 4, 264),
    (17, 5, 2040),
    (1, 65, 2047),
    (2, 6, 2048),
    (3, 5, 2056),
    (1, 3, 4100),
];

#[test]
fn linear_meets_the_bound_and_is_the_same_on_every_device() {
    for shape in SHAPES {
        Layer::new(shape, Weight::F32).check();
        Layer::<f16>::new(shape, Weight::F16).check();
        Layer::<bf16>::new(shape, Weight::BF16).check();
    }
}

#[test]
fn many_rows_are_summed_in_fewer_lanes() {
    for shape in [(1, 16_383, 8), (1, 16_384, 40), (3, 16_385, 9)] {
        Layer::<bf16>::new(shape, Weight::BF16).check();
    }
}

#[test]
fn a_row_may_start_anywhere() {
    // An operand that is not aligned to 16 bytes takes the other way through the kernel, to the same bits.
    let layer = Layer::<bf16>::new((3, 5, 2056), Weight::BF16);
    for device in gpus() {
        let aligned = layer.run(&device, 0);
        for offset in [1, 2, 3, 4, 7] {
            compare(&aligned, &layer.run(&device, offset), Tolerance::Bits).unwrap();
        }
    }
}

#[test]
fn a_token_alone_gets_the_bits_it_gets_among_others() {
    for in_features in [264, 2061] {
        let mut layer = Layer::<f16>::new((19, 6, in_features), Weight::F16);
        for device in gpus() {
            let together = layer.run(&device, 0);
            let x = layer.x.clone();
            let mut alone = Vec::new();
            for row in x.chunks_exact(in_features) {
                layer.x = row.to_vec();
                alone.extend(layer.run(&device, 0));
            }
            layer.x = x;
            compare(&together, &alone, Tolerance::Bits).unwrap();
        }
    }
}

#[test]
fn whole_numbers_come_out_as_on_the_cpu() {
    // Sums of small whole numbers round nowhere, so a wrong row, element or tail cannot hide inside the bound.
    for (tokens, out_features, in_features) in [(1, 9, 1031), (4, 70, 264), (11, 34, 520)] {
        let mut random = SplitMix64::new(5);
        let mut whole = |len: usize| Vec::from_iter((0..len).map(|_| random.below(9) as f32 - 4.0));
        let (x, weight, bias) =
            (whole(tokens * in_features), whole(out_features * in_features), whole(out_features));
        let weight = Vec::from_iter(weight.into_iter().map(bf16::from_f32));
        let layer = Layer { x, weight, bias: Some(bias), out_features, in_features, wrap: Weight::BF16 };
        all_agree(&format!("[{out_features}, {in_features}]"), |device| layer.run(device, 0));
    }
}

/// The inputs of every operation, of two rows, on one device.
struct Operands {
    embedding: Embedding,
    layer: Linear,
    norm: RmsNorm,
    ids: DeviceBuffer<u32>,
    x: DeviceBuffer<f32>,
    out: DeviceBuffer<f32>,
    tokens: DeviceBuffer<u32>,
}

impl Operands {
    /// Outputs of `rows` rows, where two are right.
    fn new(device: &Device, rows: usize) -> Operands {
        let ones = |len: usize| on(device, &vec![1.0_f32; len]);
        Operands {
            embedding: Embedding::new(Weight::F32(ones(12)), 3, 4).unwrap(),
            layer: Linear::new(Weight::F32(ones(16)), Some(ones(4)), 4, 4).unwrap(),
            norm: norm_on(device, 1, 4, 1e-5),
            ids: on(device, &[0, 1]),
            x: ones(8),
            out: on(device, &vec![7.0; rows * 4]),
            tokens: on(device, &vec![7; rows]),
        }
    }

    /// What every operation says to operands of `self` and outputs of `other`.
    fn refusals(&self, other: &mut Operands) -> Vec<NnError> {
        let Operands { out, tokens, x, norm, .. } = other;
        let mut out = out.as_view_mut().unwrap();
        let results = [
            embed(&self.embedding, self.ids.as_view(), out.reborrow()),
            linear(self.x.as_view(), &self.layer, out.reborrow()),
            rms_norm(self.x.as_view(), &self.norm, out.reborrow()),
            add_rms_norm(out.reborrow(), self.x.as_view(), None, &self.norm, x.as_view_mut().unwrap()),
            add_rms_norm(out.reborrow(), self.x.as_view(), Some(norm), &self.norm, x.as_view_mut().unwrap()),
            swiglu(self.x.as_view(), 2, out.reborrow()),
            add(out.reborrow(), self.x.as_view()),
            argmax(self.x.as_view(), 4, tokens.as_view_mut().unwrap()),
        ];
        results.into_iter().map(Result::unwrap_err).collect()
    }
}

#[test]
fn wrong_lengths_are_refused_before_any_launch() {
    for device in gpus() {
        let (operands, mut wrong) = (Operands::new(&device, 2), Operands::new(&device, 3));
        let before = device.transfers();
        let refusals = operands.refusals(&mut wrong);
        assert_eq!(device.transfers(), before);
        assert_eq!(refusals.len(), 8);
        for refusal in refusals {
            assert!(
                matches!(refusal, NnError::OperandLength { .. } | NnError::VectorLength { .. }),
                "{refusal}"
            );
        }
        assert_eq!(wrong.out.to_host_vec().unwrap(), [7.0; 12]);
        assert_eq!(wrong.tokens.to_host_vec().unwrap(), [7; 3]);
    }
}

#[test]
fn operands_of_two_devices_are_refused_and_left_alone() {
    let (here, there) = (gpu(), gpu());
    for other in [there, Device::Cpu] {
        let (operands, mut elsewhere) = (Operands::new(&here, 2), Operands::new(&other, 2));
        let before = [here.transfers(), other.transfers()];
        for refusal in operands.refusals(&mut elsewhere) {
            assert!(matches!(refusal, NnError::Mem(MemError::ForeignDevice { .. })), "{refusal}");
        }
        assert_eq!([here.transfers(), other.transfers()], before);
        assert_eq!(elsewhere.out.to_host_vec().unwrap(), [7.0; 8]);
    }
}

#[test]
fn norms_of_two_widths_and_no_vocabulary_are_refused() {
    let device = gpu();
    let (norm, narrow) = (norm_on(&device, 1, 4, 0.0), norm_on(&device, 1, 3, 0.0));
    let [mut x, branch, mut out] = [(); 3].map(|()| unwritten(&device, 8));
    let mut tokens = on(&device, &[0_u32; 2]);
    let before = device.transfers();
    let (x, out) = (x.as_view_mut().unwrap(), out.as_view_mut().unwrap());
    let error = add_rms_norm(x, branch.as_view(), Some(&narrow), &norm, out).unwrap_err();
    assert!(
        matches!(error, NnError::VectorLength { vector: "branch_norm", expected: 4, found: 3 }),
        "{error}"
    );
    let error = argmax(branch.as_view(), 0, tokens.as_view_mut().unwrap()).unwrap_err();
    assert!(matches!(error, NnError::ZeroDimension { dimension: "vocab" }), "{error}");
    assert_eq!(device.transfers(), before);
}

#[test]
fn no_tokens_launch_nothing() {
    for device in gpus() {
        let Operands { embedding, layer, norm, .. } = Operands::new(&device, 0);
        let (ids, mut tokens) = (on::<u32>(&device, &[]), on::<u32>(&device, &[]));
        let [mut x, mut out, y] = [(); 3].map(|()| on::<f32>(&device, &[]));
        let before: Transfers = device.transfers();
        let ran_on = [
            embed(&embedding, ids.as_view(), out.as_view_mut().unwrap()),
            linear(y.as_view(), &layer, out.as_view_mut().unwrap()),
            rms_norm(y.as_view(), &norm, out.as_view_mut().unwrap()),
            add_rms_norm(x.as_view_mut().unwrap(), y.as_view(), None, &norm, out.as_view_mut().unwrap()),
            swiglu(y.as_view(), 2, out.as_view_mut().unwrap()),
            add(x.as_view_mut().unwrap(), y.as_view()),
            argmax(y.as_view(), 4, tokens.as_view_mut().unwrap()),
        ];
        assert_eq!(ran_on.map(Result::unwrap), [RanOn::Hip; 7]);
        assert_eq!(device.transfers(), before);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn random_rows_are_equal_bit_for_bit(seed: u64, rows in 1_usize..5, width in 1_usize..1200, special: bool) {
        let len = rows * width;
        let x = if special { uniform_with_special::<f32>(seed, 2 * len) } else { uniform(seed, 2 * len) };
        norms_agree(&x[..len], width, 1e-5);
        gated_agree(&x, width);
        maxima_agree(&x[..len], width);
    }

    #[test]
    fn random_products_meet_the_bound(
        seed: u64, tokens in 1_usize..20, out_features in 1_usize..80, in_features in 1_usize..700, whole: bool,
    ) {
        let in_features = if whole { in_features.next_multiple_of(8) } else { in_features };
        let mut layer = Layer::<bf16>::new((tokens, out_features, in_features), Weight::BF16);
        layer.x = uniform(seed, layer.x.len());
        layer.check();
    }
}
