//! `embed`, `add`, `advance`, `swiglu`, `rms_norm`, `add_rms_norm` and `argmax` equal the CPU bit for bit.

use device_mem::{Device, DeviceBuffer, Float};
use half::{bf16, f16};
use kernels_nn::{
    Embedding, NO_TOKEN, RmsNorm, Weight, add, add_rms_norm, advance, argmax, embed, rms_norm,
    rms_norm_in_place, swiglu,
};
use parity::{uniform, uniform_with_special};
use proptest::prelude::*;

use crate::common::{all_agree, counted, gpus, norm_on, on, unchanged, unwritten};

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
fn counts_advance_and_wrap_in_one_launch() {
    for len in [1, 31, 32, 257] {
        let counts = Vec::from_iter((0..len).map(|index| (u32::MAX - 3).wrapping_add(index)));
        let by = Vec::from_iter((0..len).map(|index| index * 5));
        all_agree(&format!("{len} counts"), |device| {
            let mut buffer = on(device, &counts);
            let by = on(device, &by);
            counted(device, || advance(buffer.as_view_mut().unwrap(), by.as_view()));
            let found = buffer.to_host_vec().unwrap();
            let expected =
                counts.iter().zip(by.to_host_vec().unwrap()).map(|(&count, by)| count.wrapping_add(by));
            assert_eq!(found, Vec::from_iter(expected));
            Vec::from_iter(found.iter().map(|&count| f64::from(count)))
        });
    }
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

fn norms_agree(x: &[f32], width: usize, eps: f32) {
    all_agree(&format!("width {width}, {} elements", x.len()), |device| {
        let norm = norm_on(device, 2, width, eps);
        let (x_buffer, mut out) = (on(device, x), unwritten(device, x.len()));
        counted(device, || rms_norm(x_buffer.as_view(), &norm, out.as_view_mut().unwrap()));
        unchanged(&x_buffer, x);
        let mut in_place = on(device, x);
        counted(device, || rms_norm_in_place(in_place.as_view_mut().unwrap(), &norm));
        let out = out.to_host_vec().unwrap();
        unchanged(&in_place, &out);
        out
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

#[test]
fn rows_may_start_at_any_element() {
    const WIDTH: usize = 4100;
    const LEN: usize = 2 * WIDTH;
    let (x, y) = (uniform::<f32>(1, 2 * LEN + 4), uniform::<f32>(2, LEN + 4));
    for (x_at, y_at, out_at) in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (3, 2, 1), (2, 2, 2)] {
        all_agree(&format!("from {x_at}, {y_at} and {out_at} on"), |device| {
            let norm = norm_on(device, 3, WIDTH, 1e-5);
            let embedding = Embedding::new(Weight::F32(on(device, &y[..LEN])), 2, WIDTH).unwrap();
            let (x, y, ids) = (on(device, &x), on(device, &y), on(device, &[1_u32, 0]));
            let rows = || y.view(y_at..y_at + LEN).unwrap();
            let mut outs = [(); 5].map(|()| unwritten(device, LEN + 4));
            let mut at = outs.each_mut().map(|out| out.view_mut(out_at..out_at + LEN).unwrap());
            let [gated, sum, normed, sum_normed, embedded] = &mut at;
            swiglu(x.view(x_at..x_at + 2 * LEN).unwrap(), WIDTH, gated.reborrow()).unwrap();
            add(sum.reborrow(), rows()).unwrap();
            rms_norm(rows(), &norm, normed.reborrow()).unwrap();
            add_rms_norm(sum.reborrow(), rows(), None, &norm, sum_normed.reborrow()).unwrap();
            embed(&embedding, ids.as_view(), embedded.reborrow()).unwrap();
            outs.map(|out| out.to_host_vec().unwrap()).concat()
        });
    }
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
}
