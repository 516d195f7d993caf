//! `norm_linear` and `norm_swiglu` equal the operations that they are made of: `sum` bit for bit the CPU's, products bit for
//! bit those of `linear` where its order is theirs, and within the bound elsewhere.

use device_mem::{Device, DeviceBuffer, Float};
use half::{bf16, f16};
use kernels_nn::{
    Branch, Linear, Residual, RmsNorm, Weight, add, linear, norm_linear, norm_swiglu, rms_norm, swiglu,
};
use parity::{SplitMix64, Tolerance, compare, uniform};
use proptest::prelude::*;

use crate::common::{all_agree, counted, gpus, norm_on, on, unchanged, unwritten};

/// What is normed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rows {
    Plain,
    Added,
    /// The branch is normed before it is added.
    Normed,
}

const ROWS: [Rows; 3] = [Rows::Plain, Rows::Added, Rows::Normed];

/// The operands of a call in host memory.
struct Case<T: Float> {
    rows: Rows,
    x: Vec<f32>,
    branch: Vec<f32>,
    hidden: usize,
    weights: [Vec<T>; 3],
    biases: [Vec<f32>; 3],
    wrap: fn(DeviceBuffer<T>) -> Weight,
}

/// The operands of a call on a device.
struct Loaded {
    x: DeviceBuffer<f32>,
    branch: DeviceBuffer<f32>,
    norm: RmsNorm,
    branch_norm: RmsNorm,
    layers: [Linear; 3],
}

/// What a call gives: `sum`, then each `out`.
type Given = (Vec<f32>, [Vec<f32>; 3]);

impl<T: Float> Case<T> {
    fn new(
        rows: Rows,
        (tokens, hidden): (usize, usize),
        out_features: [usize; 3],
        wrap: fn(DeviceBuffer<T>) -> Weight,
    ) -> Case<T> {
        let layers = [(11, out_features[0]), (12, out_features[1]), (13, out_features[2])];
        Case {
            rows,
            x: uniform(1, tokens * hidden),
            branch: uniform(2, tokens * hidden),
            hidden,
            weights: layers.map(|(seed, rows)| uniform(seed, rows * hidden)),
            biases: layers.map(|(seed, rows)| uniform(seed + 10, rows)),
            wrap,
        }
    }

    fn tokens(&self) -> usize {
        self.x.len() / self.hidden
    }

    fn widths(&self) -> [usize; 3] {
        [0, 1, 2].map(|layer| self.biases[layer].len())
    }

    /// The second layer has no bias.
    fn load(&self, device: &Device) -> Loaded {
        let layer = |at: usize| {
            let bias = (at != 1).then(|| on(device, &self.biases[at]));
            Linear::new((self.wrap)(on(device, &self.weights[at])), bias, self.widths()[at], self.hidden)
                .unwrap()
        };
        Loaded {
            x: on(device, &self.x),
            branch: on(device, &self.branch),
            norm: norm_on(device, 3, self.hidden, 1e-5),
            branch_norm: norm_on(device, 4, self.hidden, 1e-6),
            layers: [layer(0), layer(1), layer(2)],
        }
    }

    fn outputs(&self, device: &Device) -> (DeviceBuffer<f32>, [DeviceBuffer<f32>; 3]) {
        (unwritten(device, self.x.len()), self.widths().map(|width| unwritten(device, self.tokens() * width)))
    }

    /// `sum` where there is a branch, which is all that is written of it.
    fn residual<'a>(&self, loaded: &'a Loaded, sum: &'a mut DeviceBuffer<f32>) -> Residual<'a> {
        let norm = (self.rows == Rows::Normed).then_some(&loaded.branch_norm);
        let branch = (self.rows != Rows::Plain).then(|| Branch {
            rows: loaded.branch.as_view(),
            norm,
            sum: sum.as_view_mut().unwrap(),
        });
        Residual { x: loaded.x.as_view(), branch }
    }

    fn inputs_are_unchanged(&self, loaded: &Loaded) {
        unchanged(&loaded.x, &self.x);
        unchanged(&loaded.branch, &self.branch);
    }

    /// In one launch, for the first `count` layers.
    fn fused(&self, device: &Device, count: usize) -> Given {
        let loaded = self.load(device);
        let (mut sum, [mut a, mut b, mut c]) = self.outputs(device);
        let rows = self.residual(&loaded, &mut sum);
        let [first, second, third] = &loaded.layers;
        let mut outs = [&mut a, &mut b, &mut c].map(|out| out.as_view_mut().unwrap());
        let [a_out, b_out, c_out] = &mut outs;
        let (a_out, b_out, c_out) = (a_out.reborrow(), b_out.reborrow(), c_out.reborrow());
        counted(device, || match count {
            1 => norm_linear(rows, &loaded.norm, [(first, a_out)]),
            2 => norm_linear(rows, &loaded.norm, [(first, a_out), (second, b_out)]),
            _ => norm_linear(rows, &loaded.norm, [(first, a_out), (second, b_out), (third, c_out)]),
        });
        self.inputs_are_unchanged(&loaded);
        (sum.to_host_vec().unwrap(), [a, b, c].map(|out| out.to_host_vec().unwrap()))
    }

    /// The same in a launch for each operation.
    fn parts(&self, device: &Device, count: usize) -> Given {
        let loaded = self.load(device);
        let (mut sum, mut outs) = self.outputs(device);
        let normed = self.normed(device, &loaded, &mut sum);
        for (layer, out) in loaded.layers.iter().zip(&mut outs).take(count) {
            linear(normed.as_view(), layer, out.as_view_mut().unwrap()).unwrap();
        }
        (sum.to_host_vec().unwrap(), outs.map(|out| out.to_host_vec().unwrap()))
    }

    fn normed(&self, device: &Device, loaded: &Loaded, sum: &mut DeviceBuffer<f32>) -> DeviceBuffer<f32> {
        let mut branch = on(device, &self.branch);
        if self.rows == Rows::Normed {
            rms_norm(loaded.branch.as_view(), &loaded.branch_norm, branch.as_view_mut().unwrap()).unwrap();
        }
        let mut x = on(device, &self.x);
        if self.rows != Rows::Plain {
            add(x.as_view_mut().unwrap(), branch.as_view()).unwrap();
            *sum = on(device, &x.to_host_vec().unwrap());
        }
        let mut normed = unwritten(device, self.x.len());
        rms_norm(x.as_view(), &loaded.norm, normed.as_view_mut().unwrap()).unwrap();
        normed
    }

    /// The first layer as gate_up, in one launch: `sum` and `out`.
    fn gated(&self, device: &Device) -> (Vec<f32>, Vec<f32>) {
        let loaded = self.load(device);
        let (mut sum, _) = self.outputs(device);
        let mut out = unwritten(device, self.tokens() * self.widths()[0] / 2);
        let rows = self.residual(&loaded, &mut sum);
        counted(device, || norm_swiglu(rows, &loaded.norm, &loaded.layers[0], out.as_view_mut().unwrap()));
        self.inputs_are_unchanged(&loaded);
        (sum.to_host_vec().unwrap(), out.to_host_vec().unwrap())
    }

    fn gated_parts(&self, device: &Device) -> (Vec<f32>, Vec<f32>) {
        let (sum, [gate_up, ..]) = self.parts(device, 1);
        let mut out = unwritten(device, gate_up.len() / 2);
        swiglu(on(device, &gate_up).as_view(), self.widths()[0] / 2, out.as_view_mut().unwrap()).unwrap();
        (sum, out.to_host_vec().unwrap())
    }

    /// One launch gives the bits of its parts, all devices give the same, and the sums are the CPU's.
    fn check(&self) {
        let count = 1 + self.tokens() % 3;
        let (cpu_sum, _) = self.parts(&Device::Cpu, count);
        for device in parity::cpu_and_devices().unwrap() {
            let what = format!(
                "{:?} [{}, {}] to {:?} on {device:?}",
                self.rows,
                self.tokens(),
                self.hidden,
                self.widths()
            );
            let same = |part: &str, expected: &[f32], found: &[f32]| {
                compare(expected, found, Tolerance::Bits)
                    .unwrap_or_else(|mismatch| panic!("{part} of {what}: {mismatch}"));
            };
            let (sum, outs) = self.fused(&device, count);
            let (_, parts) = self.parts(&device, count);
            same("sum", &cpu_sum, &sum);
            for (out, parts) in outs.iter().zip(&parts) {
                same("out", parts, out);
            }
            let (sum, out) = self.gated(&device);
            same("gated sum", &cpu_sum, &sum);
            same("gated out", &self.gated_parts(&device).1, &out);
        }
    }
}

/// Around elements of a chunk (8), of a block (256 and 2048), and those of a row that are kept (4096), for tokens that `linear`
/// sums in the same order, which are below 16.
const SHAPES: [(usize, usize); 18] = [
    (1, 1),
    (2, 7),
    (3, 8),
    (4, 9),
    (5, 255),
    (1, 256),
    (8, 257),
    (9, 264),
    (1, 1536),
    (2, 1528),
    (3, 1544),
    (4, 2040),
    (5, 2048),
    (15, 1540),
    (1, 2056),
    (1, 4096),
    (1, 4104),
    (1, 4099),
];

/// Around tiles of rows (4, 16) and of gates (2, 8), for layers of which some have less than a tile.
const OUT_FEATURES: [[usize; 3]; 6] =
    [[2, 1, 3], [16, 16, 16], [18, 17, 31], [34, 8, 4], [30, 33, 20], [8, 64, 9]];

#[test]
fn one_launch_gives_the_bits_of_its_parts() {
    for (at, shape) in SHAPES.into_iter().enumerate() {
        let out_features = OUT_FEATURES[at % OUT_FEATURES.len()];
        for rows in ROWS {
            match (at + rows as usize) % 3 {
                0 => Case::new(rows, shape, out_features, Weight::F32).check(),
                1 => Case::<f16>::new(rows, shape, out_features, Weight::F16).check(),
                _ => Case::<bf16>::new(rows, shape, out_features, Weight::BF16).check(),
            }
        }
    }
}

#[test]
fn every_tile_boundary_gives_the_bits_of_the_parts() {
    for tokens in [1, 4] {
        for out_features in OUT_FEATURES {
            Case::new(Rows::Normed, (tokens, 264), out_features, Weight::F32).check();
            Case::<f16>::new(Rows::Added, (tokens, 264), out_features, Weight::F16).check();
            Case::<bf16>::new(Rows::Normed, (tokens, 264), out_features, Weight::BF16).check();
        }
    }
}

#[test]
fn blocks_take_tiles_in_turn() {
    // More tiles than there are blocks; below 16384 rows, from which on `linear` has another order.
    let case = Case::<bf16>::new(Rows::Added, (1, 8), [16_378, 5000, 9000], Weight::BF16);
    for device in gpus() {
        let (_, parts) = case.parts(&device, 3);
        let (_, outs) = case.fused(&device, 3);
        for (out, parts) in outs.iter().zip(&parts) {
            compare(parts, out, Tolerance::Bits).unwrap();
        }
    }
}

/// A case whose norms give small whole numbers, so that no product rounds: `x` and the branch are of one size, and weights
/// are whole.
fn whole(tokens: usize, hidden: usize, out_features: [usize; 3]) -> Case<bf16> {
    let mut case = Case::<bf16>::new(Rows::Plain, (tokens, hidden), out_features, Weight::BF16);
    let mut random = SplitMix64::new(7);
    case.x.fill_with(|| if random.below(2) == 0 { 2.0 } else { -2.0 });
    for weight in case.weights.iter_mut().flatten() {
        *weight = bf16::from_f32(random.below(9) as f32 - 4.0);
    }
    for bias in case.biases.iter_mut().flatten() {
        *bias = random.below(9) as f32 - 4.0;
    }
    case
}

impl Case<bf16> {
    /// With norms of weight 3 and no epsilon.
    fn run_whole(&self, device: &Device, gated: bool) -> Vec<f32> {
        let mut loaded = self.load(device);
        loaded.norm = RmsNorm::new(on(device, &vec![3.0; self.hidden]), 0.0).unwrap();
        let (mut sum, _) = self.outputs(device);
        let width = if gated { self.widths()[0] / 2 } else { self.widths()[0] };
        let mut out = unwritten(device, self.tokens() * width);
        let rows = self.residual(&loaded, &mut sum);
        let (layer, view) = (&loaded.layers[0], out.as_view_mut().unwrap());
        counted(device, || match gated {
            true => norm_swiglu(rows, &loaded.norm, layer, view),
            false => norm_linear(rows, &loaded.norm, [(layer, view)]),
        });
        out.to_host_vec().unwrap()
    }
}

#[test]
fn whole_numbers_come_out_as_on_the_cpu() {
    // A wrong row, element, tile or tail cannot hide where nothing rounds, whatever the order; 16400 rows are summed in another
    // one by `linear`, and 17 tokens too.
    for (tokens, hidden, rows) in [(1, 1031, 34), (17, 264, 66), (2, 40, 16_400), (1, 2056, 48)] {
        let case = whole(tokens, hidden, [rows, 1, 1]);
        for gated in [false, true] {
            all_agree(&format!("[{tokens}, {hidden}] to {rows}"), |device| case.run_whole(device, gated));
        }
    }
}

#[test]
fn layers_that_linear_sums_in_another_order_are_within_the_bound() {
    let (tokens, hidden, out_features) = (2, 264, 16_400);
    let case = Case::<bf16>::new(Rows::Normed, (tokens, hidden), [out_features, 1, 1], Weight::BF16);
    let mut sum = unwritten(&Device::Cpu, case.x.len());
    let normed = case.normed(&Device::Cpu, &case.load(&Device::Cpu), &mut sum).to_host_vec().unwrap();
    // m = 8 ceil(hidden / 2048) + 9 roundings, as `norm_linear` says.
    let roundings = (8 * hidden.div_ceil(2048) + 9) as f64 * 2.0_f64.powi(-24);
    let gamma = roundings / (1.0 - roundings);
    let (mut exact, mut bounds) = (Vec::new(), Vec::new());
    for x in normed.chunks_exact(hidden) {
        for (weights, &bias) in case.weights[0].chunks_exact(hidden).zip(&case.biases[0]) {
            let products = || x.iter().zip(weights).map(|(&x, w)| f64::from(x) * w.to_f64());
            let bias = f64::from(bias);
            exact.push(products().sum::<f64>() + bias);
            bounds.push(gamma * (products().map(f64::abs).sum::<f64>() + bias.abs()));
        }
    }
    for device in gpus() {
        let (_, [out, ..]) = case.fused(&device, 1);
        compare(&exact, &out, Tolerance::Elementwise(&bounds))
            .unwrap_or_else(|mismatch| panic!("{device:?}: {mismatch}"));
    }
}

#[test]
fn a_token_alone_gets_the_bits_it_gets_among_others() {
    let together = Case::<f16>::new(Rows::Normed, (7, 1608), [20, 1, 1], Weight::F16);
    for device in gpus() {
        let (sum, [out, ..]) = together.fused(&device, 1);
        let (_, gated) = together.gated(&device);
        for token in 0..7 {
            let part = token * 1608..(token + 1) * 1608;
            let mut alone = Case::<f16>::new(Rows::Normed, (1, 1608), [20, 1, 1], Weight::F16);
            (alone.x, alone.branch) =
                (together.x[part.clone()].to_vec(), together.branch[part.clone()].to_vec());
            let (alone_sum, [alone_out, ..]) = alone.fused(&device, 1);
            compare(&sum[part], &alone_sum, Tolerance::Bits).unwrap();
            compare(&out[token * 20..(token + 1) * 20], &alone_out, Tolerance::Bits).unwrap();
            compare(&gated[token * 10..(token + 1) * 10], &alone.gated(&device).1, Tolerance::Bits).unwrap();
        }
    }
}

#[test]
fn rows_may_start_anywhere() {
    // An operand that is not aligned to 16 bytes takes the other way through the kernel, to the same bits.
    let case = Case::<bf16>::new(Rows::Plain, (3, 264), [18, 1, 1], Weight::BF16);
    for device in gpus() {
        let (_, [aligned, ..]) = case.fused(&device, 1);
        let loaded = case.load(&device);
        let shifted = on(&device, &[vec![f32::NAN; 3], case.x.clone()].concat());
        let mut out = unwritten(&device, aligned.len());
        let rows = Residual { x: shifted.view(3..3 + case.x.len()).unwrap(), branch: None };
        counted(&device, || {
            norm_linear(rows, &loaded.norm, [(&loaded.layers[0], out.as_view_mut().unwrap())])
        });
        compare(&aligned, &out.to_host_vec().unwrap(), Tolerance::Bits).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn random_calls_give_the_bits_of_their_parts(
        seed: u64, tokens in 1_usize..16, hidden in 1_usize..700, whole: bool, rows in 0_usize..3,
        out_features in (1_usize..40, 1_usize..40, 1_usize..40),
    ) {
        let hidden = if whole { hidden.next_multiple_of(8) } else { hidden };
        let out_features = [2 * out_features.0, out_features.1, out_features.2];
        let mut case = Case::<bf16>::new(ROWS[rows], (tokens, hidden), out_features, Weight::BF16);
        (case.x, case.branch) = (uniform(seed, tokens * hidden), uniform(!seed, tokens * hidden));
        case.check();
    }
}
