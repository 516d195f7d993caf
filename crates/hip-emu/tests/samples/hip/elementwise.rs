use half::{bf16, f16};

use crate::card::{Arguments, Card, each_build};
use crate::compare::{Random, Real, assert_close, assert_same};
use crate::compile::Dialect;

/// Ten roundings of f32, of values of at most 4.
const LIMIT: f64 = 40.0 * f32::ROUNDING;

fn silu(card: &Card) {
    const ROWS: usize = 3;
    const DIM: usize = 50;
    let x: Vec<f16> =
        Random::new(6).values::<f16>(ROWS * 2 * DIM).iter().map(|x| *x * f16::from_f32(4.0)).collect();
    let expected: Vec<f64> = x
        .chunks_exact(2 * DIM)
        .flat_map(|row| {
            let (gate, up) = row.split_at(DIM);
            gate.iter().zip(up).map(|(g, u)| g.wide() / (1.0 + (-g.wide()).exp()) * u.wide())
        })
        .collect();
    let (x, y) = (card.upload(&x), card.upload(&[f16::NAN; ROWS * DIM]));
    let arguments = Arguments::default().buffer(&x).buffer(&y).size(DIM).size(ROWS);
    card.launch("silu_mul_f16", [2, 1, 1], 64, arguments);
    // The product of two such values is below 16.
    assert_close(card, "silu_mul_f16", &card.download(&y), &expected, 4.0 * LIMIT);
}

fn gelu(card: &Card) {
    const COUNT: usize = 100;
    let x: Vec<bf16> =
        Random::new(7).values::<bf16>(COUNT).iter().map(|x| *x * bf16::from_f32(4.0)).collect();
    let expected: Vec<f64> = x
        .iter()
        .map(|x| x.wide())
        .map(|x| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh()))
        .collect();
    let (x, y) = (card.upload(&x), card.upload(&[bf16::NAN; COUNT]));
    card.launch("gelu_tanh_bf16", [2, 1, 1], 64, Arguments::default().buffer(&x).buffer(&y).size(COUNT));
    assert_close(card, "gelu_tanh_bf16", &card.download(&y), &expected, LIMIT);
}

/// Tokens outside the vocabulary give zeros.
fn gather(card: &Card) {
    const DIM: usize = 64;
    const VOCABULARY: usize = 10;
    const TOKENS: [i32; 5] = [3, -1, 0, 10, 9];
    let table = Random::new(8).values::<f16>(VOCABULARY * DIM);
    let row = |token: &i32| usize::try_from(*token).ok().and_then(|token| table.chunks_exact(DIM).nth(token));
    let expected =
        TOKENS.iter().map(|token| row(token).unwrap_or(&[f16::ZERO; DIM])).collect::<Vec<_>>().concat();
    let (device_table, tokens) = (card.upload(&table), card.upload(&TOKENS));
    let y = card.upload(&[f16::NAN; TOKENS.len() * DIM]);
    let arguments = Arguments::default().buffer(&device_table).buffer(&tokens).buffer(&y);
    let arguments = arguments.size(DIM).size(VOCABULARY);
    card.launch("embed_gather_f16", [TOKENS.len(), 1, 1], 32, arguments);
    assert_same(card, "embed_gather_f16", &card.download(&y), &expected);
}

/// Tokens with a negative slot leave no trace.
fn cache(card: &Card) {
    const ROW: usize = 2 * 24;
    const SLOTS: [i32; 4] = [5, -1, 0, 2];
    let mut random = Random::new(9);
    let (key, mut cache) = (random.values::<f16>(SLOTS.len() * ROW), random.values::<f16>(6 * ROW));
    let device_cache = card.upload(&cache);
    for (row, slot) in key.chunks_exact(ROW).zip(SLOTS) {
        if let Ok(slot) = usize::try_from(slot) {
            cache[slot * ROW..][..ROW].copy_from_slice(row);
        }
    }
    let (key, slots) = (card.upload(&key), card.upload(&SLOTS));
    let arguments =
        Arguments::default().buffer(&key).buffer(&device_cache).buffer(&slots).value(2i32).value(24i32);
    card.launch("kv_write_f16", [SLOTS.len(), 1, 1], 32, arguments);
    assert_same(card, "kv_write_f16", &card.download(&device_cache), &cache);
}

fn gumbel(card: &Card) {
    const SEED: u64 = 0x0123_4567_89ab_cdef;
    const TEMPERATURE: f32 = 0.7;
    let logits = Random::new(10).values::<f32>(100);
    let expected: Vec<f64> = (0u64..)
        .zip(&logits)
        .map(|(i, logit)| {
            let mut bits = SEED.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            bits ^= bits >> 31;
            let uniform = ((bits >> 40) as f32 + 0.5) / 16_777_216.0;
            logit.wide() / TEMPERATURE.wide() - (-uniform.wide().ln()).ln()
        })
        .collect();
    let (device_logits, y) = (card.upload(&logits), card.upload(&[f32::NAN; 100]));
    let arguments = Arguments::default().buffer(&device_logits).buffer(&y).value(100i32).value(SEED);
    card.launch("rng_gumbel_f32", [2, 1, 1], 64, arguments.value(TEMPERATURE));
    assert_close(card, "rng_gumbel_f32", &card.download(&y), &expected, 2.0 * LIMIT);
}

fn roots(card: &Card) {
    const THREADS: usize = 64;
    let x = Random::new(11).values::<f32>(300);
    let partial =
        |thread: usize| x.iter().skip(thread).step_by(THREADS).map(|x| x.wide() * x.wide()).sum::<f64>();
    let expected = 0.5 + (0..THREADS).map(|thread| partial(thread).sqrt()).sum::<f64>();
    let (device_x, y) = (card.upload(&x), card.upload(&[0.5f64]));
    let arguments = Arguments::default().buffer(&device_x).buffer(&y).value(300i32);
    card.launch("reduce_f64", [1, 1, 1], THREADS, arguments);
    // 64 additions in any order and a few roundings of each term, of sums below 100.
    assert_close(card, "reduce_f64", &card.download(&y), &[expected], 80.0 * 100.0 * f64::ROUNDING);
}

#[test]
fn elementwise() {
    each_build(Dialect::Hip, "elementwise", &[], |card| {
        silu(card);
        gelu(card);
        gather(card);
        cache(card);
        gumbel(card);
        roots(card);
    });
}
