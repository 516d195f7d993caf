//! One source of many kernels `k`, each chosen by a macro: those of gfx11 and gfx12, and those that every target has.

use half::bf16;

use crate::card::{Arguments, each_build, each_build_for};
use crate::compare::{Random, Real, assert_close, assert_same, dot, wide};
use crate::compile::Dialect;

const SOURCE: &str = "matrix_builtins";

const GFX11: &[&str] = &["gfx1100", "gfx1151"];
const GFX12: &[&str] = &["gfx1201"];

/// Every lane gives the same row and column, so all elements gain the same product.
#[test]
fn wmma_bf16() {
    each_build_for(GFX11, Dialect::Bare, SOURCE, &["-DT_WMMA11_BF16"], |card| {
        let mut random = Random::new(9);
        let (a, c) = (random.values::<bf16>(32), random.values::<f32>(8));
        let gain = dot(&wide(&a[..16]), &wide(&a[16..]));
        let expected: Vec<f64> = c.iter().map(|c| c.wide() + gain).collect();
        let (c, a) = (card.upload(&c), card.upload(&a));
        card.launch("k", [1, 1, 1], 32, Arguments::default().buffer(&c).buffer(&a));
        // 16 products of at most 1 and 17 additions.
        assert_close(card, "k", &card.download(&c), &expected, 17.0 * 17.0 * f32::ROUNDING);
    });
}

#[test]
fn wmma_i8() {
    each_build_for(GFX11, Dialect::Bare, SOURCE, &["-DT_WMMA11_I8"], |card| {
        let mut random = Random::new(10);
        let a: Vec<i8> = random.integers(32, 256).iter().map(|x| i8::try_from(x - 128).unwrap()).collect();
        let c = random.integers(8, 1000);
        let gain: i32 = a[..16].iter().zip(&a[16..]).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum();
        let expected: Vec<i32> = c.iter().map(|c| c + gain).collect();
        let (c, a) = (card.upload(&c), card.upload(&a));
        card.launch("k", [1, 1, 1], 32, Arguments::default().buffer(&c).buffer(&a));
        assert_same(card, "k", &card.download(&c), &expected);
    });
}

/// Every lane gives the same half of a row and of a column, so all elements gain the same product twice.
#[test]
fn split_wmma_bf16() {
    each_build_for(GFX12, Dialect::Bare, SOURCE, &["-DT_WMMA12_BF16"], |card| {
        let mut random = Random::new(12);
        let (a, c) = (random.values::<bf16>(16), random.values::<f32>(8));
        let gain = 2.0 * dot(&wide(&a[..8]), &wide(&a[8..]));
        let expected: Vec<f64> = c.iter().map(|c| c.wide() + gain).collect();
        let (c, a) = (card.upload(&c), card.upload(&a));
        card.launch("k", [1, 1, 1], 32, Arguments::default().buffer(&c).buffer(&a));
        // 16 products of at most 1 and 17 additions.
        assert_close(card, "k", &card.download(&c), &expected, 17.0 * 17.0 * f32::ROUNDING);
    });
}

#[test]
fn split_wmma_i8() {
    each_build_for(GFX12, Dialect::Bare, SOURCE, &["-DT_WMMA12_I8"], |card| {
        let mut random = Random::new(13);
        let a: Vec<i8> = random.integers(16, 256).iter().map(|x| i8::try_from(x - 128).unwrap()).collect();
        let c = random.integers(8, 1000);
        let gain: i32 = a[..8].iter().zip(&a[8..]).map(|(&a, &b)| 2 * i32::from(a) * i32::from(b)).sum();
        let expected: Vec<i32> = c.iter().map(|c| c + gain).collect();
        let (c, a) = (card.upload(&c), card.upload(&a));
        card.launch("k", [1, 1, 1], 32, Arguments::default().buffer(&c).buffer(&a));
        assert_same(card, "k", &card.download(&c), &expected);
    });
}

/// Encodings of numbers with 4 bits of exponent and 3 of fraction, whose sums of products are exact.
#[test]
fn split_wmma_fp8() {
    const NUMBERS: [(u8, f32); 8] = [
        (0x38, 1.0),
        (0xb8, -1.0),
        (0x40, 2.0),
        (0x3c, 1.5),
        (0x30, 0.5),
        (0x00, 0.0),
        (0xc9, -4.5),
        (0x01, 0.001_953_125),
    ];
    each_build_for(GFX12, Dialect::Bare, SOURCE, &["-DT_WMMA12_FP8"], |card| {
        let mut random = Random::new(14);
        let chosen: Vec<(u8, f32)> = random
            .integers(16, 8)
            .into_iter()
            .map(|index| NUMBERS[usize::try_from(index).unwrap()])
            .collect();
        let a: Vec<u8> = chosen.iter().map(|&(bits, _)| bits).collect();
        let gain: f32 = (0..8).map(|k| 2.0 * chosen[k].1 * chosen[8 + k].1).sum();
        let c: Vec<f32> = (0..8_u8).map(f32::from).collect();
        let expected: Vec<f32> = c.iter().map(|c| c + gain).collect();
        let (c, a) = (card.upload(&c), card.upload(&a));
        card.launch("k", [1, 1, 1], 32, Arguments::default().buffer(&c).buffer(&a));
        assert_same(card, "k", &card.download(&c), &expected);
    });
}

/// The compiler may round the product or not.
#[test]
fn bf16_type() {
    each_build(Dialect::Bare, SOURCE, &["-DT_BF16_TYPE"], |card| {
        for seed in 0..8 {
            let values = Random::new(seed).values::<bf16>(3);
            let product = values[0].wide() * values[1].wide();
            let expected = [product + values[2].wide()];
            let (c, a) = (card.upload(&values[2..]), card.upload(&values[..2]));
            card.launch("k", [1, 1, 1], 1, Arguments::default().buffer(&c).buffer(&a));
            let limit = product.abs() * bf16::ROUNDING * (1.0 + bf16::ROUNDING);
            assert_close(card, "k", &card.download(&c), &expected, limit);
        }
    });
}

#[test]
fn dynamic_lds() {
    each_build(Dialect::Bare, SOURCE, &["-DT_DYNLDS"], |card| {
        let values = Random::new(11).values::<f32>(128);
        let expected: Vec<f32> = (0..128).map(|thread| values[thread ^ 1]).collect();
        let c = card.upload(&values);
        let result = card.try_launch("k", [1, 1, 1], 128, 128 * 4, Arguments::default().buffer(&c));
        result.unwrap_or_else(|error| panic!("{}: {error}", card.label()));
        assert_same(card, "k", &card.download(&c), &expected);
    });
}
