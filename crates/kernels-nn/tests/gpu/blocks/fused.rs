//! Fused launches of blocks give the bits of their parts, also where their layers have several types.

use device_mem::{Device, DeviceBuffer};
use half::f16;
use kernels_nn::{
    BlockType, Branch, Linear, Residual, RmsNorm, Weight, add_rms_norm, linear, norm_linear, norm_swiglu,
    rms_norm, swiglu,
};
use parity::{Tolerance, compare, uniform};

use super::{any_blocks, small};
use crate::common::{counted, gpus, norm_on, on, unwritten};

/// A weight of a type by its name.
fn weight(device: &Device, name: &str, seed: u64, elements: usize) -> Weight {
    match name.parse::<BlockType>() {
        Ok(block) => Weight::Blocks(block, on(device, &any_blocks(block, seed, elements, small))),
        Err(_) => Weight::F16(on(device, &uniform::<f16>(seed, elements))),
    }
}

/// A call of `norm_linear` with three layers, and of `norm_swiglu` with the first.
struct Fused {
    x: DeviceBuffer<f32>,
    branch: DeviceBuffer<f32>,
    norm: RmsNorm,
    branch_norm: RmsNorm,
    layers: [Linear; 3],
}

impl Fused {
    fn new(device: &Device, tokens: usize, hidden: usize, types: [&str; 3], rows: [usize; 3]) -> Fused {
        let layer = |at: usize| {
            let weight = weight(device, types[at], 7 + at as u64, rows[at] * hidden);
            let bias = (at != 1).then(|| on(device, &uniform::<f32>(20 + at as u64, rows[at])));
            Linear::new(weight, bias, rows[at], hidden).unwrap()
        };
        Fused {
            x: on(device, &uniform::<f32>(1, tokens * hidden)),
            branch: on(device, &uniform::<f32>(2, tokens * hidden)),
            norm: norm_on(device, 3, hidden, 1e-5),
            branch_norm: norm_on(device, 4, hidden, 1e-6),
            layers: [layer(0), layer(1), layer(2)],
        }
    }

    fn outputs(&self, device: &Device) -> [DeviceBuffer<f32>; 3] {
        let tokens = self.x.len() / self.norm.hidden();
        self.layers.each_ref().map(|layer| unwritten(device, tokens * layer.out_features()))
    }

    fn residual<'a>(&'a self, sum: &'a mut DeviceBuffer<f32>) -> Residual<'a> {
        let branch = Branch {
            rows: self.branch.as_view(),
            norm: Some(&self.branch_norm),
            sum: sum.as_view_mut().unwrap(),
        };
        Residual { x: self.x.as_view(), branch: Some(branch) }
    }

    /// `sum`, the products, and SwiGLU of the first, in `launches` and one.
    fn whole(&self, device: &Device, launches: u64) -> Vec<Vec<f32>> {
        let (mut sum, [mut a, mut b, mut c]) = (unwritten(device, self.x.len()), self.outputs(device));
        let [first, second, third] = &self.layers;
        let before = device.transfers();
        let layers = [
            (first, a.as_view_mut().unwrap()),
            (second, b.as_view_mut().unwrap()),
            (third, c.as_view_mut().unwrap()),
        ];
        norm_linear(self.residual(&mut sum), &self.norm, layers).unwrap();
        let mut expected = before;
        expected.launches += launches;
        assert_eq!(device.transfers(), expected, "launches, and nothing else");
        let (mut gated_sum, mut gated) = (unwritten(device, sum.len()), unwritten(device, a.len() / 2));
        counted(device, || {
            norm_swiglu(self.residual(&mut gated_sum), &self.norm, first, gated.as_view_mut().unwrap())
        });
        [sum, a, b, c, gated_sum, gated].map(|buffer| buffer.to_host_vec().unwrap()).into()
    }

    /// The same in a launch for each operation.
    fn parts(&self, device: &Device) -> Vec<Vec<f32>> {
        let mut sum = on(device, &self.x.to_host_vec().unwrap());
        let mut normed = unwritten(device, sum.len());
        let (x, branch) = (sum.as_view_mut().unwrap(), self.branch.as_view());
        add_rms_norm(x, branch, Some(&self.branch_norm), &self.norm, normed.as_view_mut().unwrap()).unwrap();
        let mut outs = self.outputs(device);
        for (layer, out) in self.layers.iter().zip(&mut outs) {
            linear(normed.as_view(), layer, out.as_view_mut().unwrap()).unwrap();
        }
        let mut gated = unwritten(device, outs[0].len() / 2);
        let ff = self.layers[0].out_features() / 2;
        swiglu(outs[0].as_view(), ff, gated.as_view_mut().unwrap()).unwrap();
        let [a, b, c] = outs;
        let gated_sum = on(device, &sum.to_host_vec().unwrap());
        [sum, a, b, c, gated_sum, gated].map(|buffer| buffer.to_host_vec().unwrap()).into()
    }

    fn check(tokens: usize, hidden: usize, types: [&str; 3], rows: [usize; 3], launches: u64) {
        for device in gpus() {
            let fused = Fused::new(&device, tokens, hidden, types, rows);
            let names = ["sum", "first", "second", "third", "gated sum", "gated"];
            let (whole, parts) = (fused.whole(&device, launches), fused.parts(&device));
            for (name, (whole, parts)) in names.iter().zip(whole.iter().zip(&parts)) {
                compare(parts, whole, Tolerance::Bits).unwrap_or_else(|mismatch| {
                    panic!("{name} of [{tokens}, {hidden}] to {types:?} {rows:?} on {device:?}: {mismatch}")
                });
            }
        }
    }
}

/// Around tiles of rows (16) and of gates (8).
const ROWS: [[usize; 3]; 4] = [[2, 1, 3], [16, 17, 31], [34, 8, 4], [30, 33, 16]];

#[test]
fn one_launch_gives_the_bits_of_its_parts() {
    for (at, block) in BlockType::ALL.into_iter().enumerate() {
        for (tokens, blocks) in [(1, 1), (3, 2), (1, 5)] {
            let rows = ROWS[(at + tokens + blocks) % ROWS.len()];
            Fused::check(tokens, blocks * block.block_len(), [block.name(); 3], rows, 1);
        }
    }
}

#[test]
fn rows_wider_than_what_is_kept_give_the_bits_of_the_parts() {
    for (block, hidden) in [("Q4_0", 4128), ("Q8_0", 8192), ("Q8_0", 8224), ("Q6_K", 8448), ("Q4_K", 16_640)]
    {
        Fused::check(1, hidden, [block; 3], [18, 3, 1], 1);
    }
}

#[test]
fn each_type_in_turn_is_a_launch_and_the_first_writes_the_sum() {
    Fused::check(1, 512, ["Q4_K", "Q4_K", "Q6_K"], [32, 16, 18], 2);
    Fused::check(2, 256, ["Q4_K", "Q6_K", "Q4_K"], [8, 16, 18], 3);
    Fused::check(1, 256, ["Q8_0", "f16", "f16"], [6, 16, 40], 2);
    Fused::check(1, 256, ["f16", "Q5_0", "Q5_1"], [20, 1, 3], 3);
}

#[test]
fn blocks_take_tiles_in_turn() {
    // More tiles than there are blocks; below 16384 rows, from which on `linear` has another order.
    Fused::check(1, 32, ["Q4_0", "Q4_0", "Q5_1"], [5002, 7000, 4000], 2);
}

#[test]
fn what_is_normed_may_start_anywhere() {
    for device in gpus() {
        let fused = Fused::new(&device, 1, 6400, ["Q4_K"; 3], [5, 1, 1]);
        let mut normed = unwritten(&device, 6400);
        rms_norm(fused.x.as_view(), &fused.norm, normed.as_view_mut().unwrap()).unwrap();
        let [mut expected, ..] = fused.outputs(&device);
        linear(normed.as_view(), &fused.layers[0], expected.as_view_mut().unwrap()).unwrap();
        let expected = expected.to_host_vec().unwrap();
        for offset in [1, 2, 3] {
            let shifted = [vec![f32::NAN; offset], fused.x.to_host_vec().unwrap()].concat();
            let x = on(&device, &shifted);
            let [mut out, ..] = fused.outputs(&device);
            let rows = Residual { x: x.view(offset..shifted.len()).unwrap(), branch: None };
            counted(&device, || {
                norm_linear(rows, &fused.norm, [(&fused.layers[0], out.as_view_mut().unwrap())])
            });
            compare(&expected, &out.to_host_vec().unwrap(), Tolerance::Bits).unwrap();
        }
    }
}
