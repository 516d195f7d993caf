//! A matrix times rows.

use device_mem::{RanOn, View, ViewMut};

use crate::{Linear, NnError, cpu, expect_rows, whole_rows};

#[expect(unsafe_code, reason = "launches, each with its proof")]
mod hip;

/// `out = x W^T + b` for each row of `x` `[tokens, in_features]`; `out` is `[tokens, out_features]`.
///
/// `|error| <= gamma_m * (sum |w x| + |b|)`, `gamma_m = m u / (1 - m u)`, `u = 2^-24` (Higham, Accuracy and Stability of
/// Numerical Algorithms, 3.1), where `m` is the longest chain of roundings:
///
/// - On the CPU products and sums are rounded once each. Element `i` of a row is added to lane `i % 16`, the lanes are then
///   added in halves, and the bias comes last: `m = ceil(in_features / 16) + 5`.
/// - On the CPU 16 or more tokens are multiplied with floats in tiles: each product is added with one rounding, in ascending order, from 0
///   again after each 256, then those sums, and the bias comes last: `m = min(in_features, 256) + ceil(in_features / 256) + 2`.
///   A CPU without fused multiply-add (x86-64 before Haswell) rounds the product too, within the same bound.
/// - On the CPU tokens are rounded to 8 bits where the weight is of blocks: for each 32 elements of a token, of which `a` is the
///   largest magnitude, a level is `t = a / 127`, and each element is within `0.5001 t` of a whole number of them. That adds
///   `0.5001 t` for each element times the weight's magnitude to the bound. Sums of levels are exact; `m = ceil(in_features /
///   64) + 9`, where an element of the weight counts with the magnitudes of both its scaled level and its minimum. Of 16 or more
///   tokens the sums of 32 elements are added in ascending order: `m = 2 ceil(in_features / 32) + 3`.
/// - On a HIP device each product is added with one rounding. Elements go to lane `(i / 8) % lanes`, the lanes are then
///   added in halves (first within groups of 32), and the bias comes last: `m = 8 ceil(in_features / (8 lanes)) +
///   log2(lanes) + 1`. There are 256 lanes for less than 16384 `out_features`, so that few rows fill a card, else 32.
/// - On a HIP device tokens are rounded to the same 8 bits where the weight is of blocks, whatever their number, which adds the same
///   to the bound. Elements go to lane `(i / 32) % lanes`, of which the formats of 256 elements take eight lanes' from a block
///   together. A lane adds at most four sums of levels and minima for each 32 elements; lanes and bias follow as above: `m =
///   4 ceil(in_features / (32 lanes)) + log2(lanes) + 3`. There are 128 lanes for less than 16384 `out_features`, else 32.
/// - On a HIP device 16 or more tokens are multiplied with floats in such tiles too. With `a = min(in_features, 256)` and
///   `p = ceil(in_features / 256)`, `m = a + p + 1` for a weight of f32, `4 a + p + 140` for bf16, `6 a + p + 410` for f16.
///
/// The last two are for matrix units (WMMA of gfx11 and gfx12, MFMA of gfx90a and gfx94x, tensor cores of NVIDIA's), which
/// multiply bf16 exactly and add in f32. So an activation is split into two bf16, to `2^-17` of itself, which is what 128
/// roundings may do, and less than the sum's own once there are 32 elements; a weight of f16 is split into two exactly, and the product of the
/// two small parts, at most `2^-16` of the whole, is left out. No manual says how the units round: the bound allows an
/// addition two units of `2^-24`, not the one of the nearest number. Activations and products must lie within the range of
/// bf16: those above `3.39e38` count as infinite, parts below `2^-126` as 0 where a card flushes them. Other cards
/// multiply as for a weight of f32. A row does not depend on the other tokens of the call, but the order is not that of
/// fewer tokens, and within a matrix unit it is the card's own: a prompt that is run in pieces of less than 16 tokens gives
/// other bits than at once.
///
/// # Errors
/// [`NnError::Ragged`], [`NnError::OperandLength`], [`NnError::RowTooWide`] for rows of blocks from `2^25` elements on where a
/// HIP device is to multiply them, [`ForeignDevice`](device_mem::MemError::ForeignDevice), or what the device reports.
pub fn linear(x: View<'_, f32>, layer: &Linear, out: ViewMut<'_, f32>) -> Result<RanOn, NnError> {
    let Linear { weight, out_features, in_features, .. } = layer;
    weight.device().expect_same(&x.device())?;
    weight.device().expect_same(&out.device())?;
    let tokens = whole_rows("x", *in_features, x.len())?;
    expect_rows("out", tokens, *out_features, out.len())?;
    match (x, layer.host(), out) {
        (View::Host(x), Some(layer), ViewMut::Host(out)) => {
            cpu::linear_host(x, [Some((layer, out))]);
            Ok(RanOn::Cpu)
        }
        (x, _, out) => hip::linear_device(x, layer, out).map(|()| RanOn::Hip),
    }
}

/// [`linear`] of the same rows with one to three layers, such as the projections to queries, keys and values: the same bits. On the
/// CPU what layers take of `x` is made ready once.
///
/// # Errors
/// As [`linear`]; nothing is written where a length or a device is wrong.
pub fn linear_each<const LAYERS: usize>(
    x: View<'_, f32>,
    layers: [(&Linear, ViewMut<'_, f32>); LAYERS],
) -> Result<RanOn, NnError> {
    const { assert!(1 <= LAYERS && LAYERS <= cpu::MOST_LAYERS, "as many as a call on the CPU takes") };
    let Some((first, _)) = layers.first() else { return Ok(RanOn::Cpu) };
    let tokens = whole_rows("x", first.in_features, x.len())?;
    for (layer, out) in &layers {
        let device = layer.weight.device();
        device.expect_same(&x.device())?;
        device.expect_same(&out.device())?;
        expect_rows("x", tokens, layer.in_features, x.len())?;
        expect_rows("out", tokens, layer.out_features, out.len())?;
    }
    if let View::Host(x) = x {
        let on_host = layers.map(|(layer, out)| match out {
            ViewMut::Host(out) => Some((layer.host()?, out)),
            ViewMut::Hip(_) => None,
        });
        cpu::linear_host(x, on_host);
        return Ok(RanOn::Cpu);
    }
    layers.into_iter().try_fold(RanOn::Hip, |_, (layer, out)| linear(x, layer, out))
}

#[cfg(test)]
mod tests {
    use device_mem::{Device, DeviceBuffer};
    use half::bf16;

    use super::*;
    use crate::{BlockType, Weight};

    const IN_FEATURES: usize = 128;

    fn layer(weight: Weight, rows: usize) -> Linear {
        Linear::new(weight, None, rows, IN_FEATURES).unwrap()
    }

    #[test]
    fn several_layers_at_once_have_the_bits_of_each() {
        let on_cpu = |rows: usize| parity::uniform::<f32>(rows as u64, rows * IN_FEATURES);
        let mut bytes = vec![0; 40 * IN_FEATURES / 32 * 18];
        BlockType::Q4_0.quantize(&on_cpu(40), &mut bytes).unwrap();
        let bytes = DeviceBuffer::from_host_vec(&Device::Cpu, bytes).unwrap();
        let halves = Vec::from_iter(on_cpu(24).into_iter().map(bf16::from_f32));
        let layers = [
            layer(Weight::F32(DeviceBuffer::from_host_vec(&Device::Cpu, on_cpu(9)).unwrap()), 9),
            layer(Weight::Blocks(BlockType::Q4_0, bytes), 40),
            layer(Weight::BF16(DeviceBuffer::from_host_vec(&Device::Cpu, halves).unwrap()), 24),
        ];
        for tokens in [1, 3, 20] {
            let x = parity::uniform::<f32>(5, tokens * IN_FEATURES);
            let zeros = layers.each_ref().map(|layer| vec![0.0; tokens * layer.out_features()]);
            let (mut alone, [mut first, mut second, mut third]) = (zeros.clone(), zeros);
            for (layer, out) in layers.iter().zip(&mut alone) {
                linear(View::Host(&x), layer, ViewMut::Host(out)).unwrap();
            }
            let together = [&mut first, &mut second, &mut third].map(|out| ViewMut::Host(out));
            let [one, two, three] = together;
            let outs = [(&layers[0], one), (&layers[1], two), (&layers[2], three)];
            linear_each(View::Host(&x), outs).unwrap();
            assert_eq!(alone, [first, second, third], "{tokens} tokens");
        }
        let narrow = Weight::F32(DeviceBuffer::from_host_vec(&Device::Cpu, vec![0.0; 64]).unwrap());
        let narrow = Linear::new(narrow, None, 1, 64).unwrap();
        let (x, mut first, mut second) = (vec![0.0; IN_FEATURES], vec![1.0; 9], vec![1.0; 2]);
        let outs = [(&layers[0], ViewMut::Host(&mut first)), (&narrow, ViewMut::Host(&mut second))];
        let error = linear_each(View::Host(&x), outs).unwrap_err();
        assert!(matches!(error, NnError::OperandLength { .. }), "{error}");
        assert_eq!(first, [1.0; 9]);
    }
}
