use crate::card::{Arguments, Card, each_build};
use crate::compare::{Random, Real, assert_close, assert_same};
use crate::compile::Dialect;

/// The bits of a float, mapped so that they order as the floats do.
fn ordered(x: f32) -> u32 {
    let bits = x.to_bits();
    if bits & 0x8000_0000 == 0 { bits | 0x8000_0000 } else { !bits }
}

/// Of two equal values the first wins.
fn argmax(card: &Card) {
    let mut x = Random::new(19).values::<f32>(1000);
    (x[700], x[431]) = (1.5, 1.5);
    for (x, index) in [(x, 431), (vec![-2.0, -1.0, -3.0], 1)] {
        let (device_x, out) = (card.upload(&x), card.upload(&[0u64]));
        let arguments = Arguments::default().buffer(&device_x).buffer(&out).size(x.len());
        card.launch("argmax_f32", [3, 1, 1], 64, arguments);
        let expected = u64::from(ordered(x[index])) << 32 | u64::from(!u32::try_from(index).unwrap());
        assert_same(card, "argmax_f32", &card.download(&out), &[expected]);
    }
}

/// Takes whole bins of the top byte, from the greatest on, until there are enough.
fn histogram(card: &Card) {
    const COUNT: usize = 1000;
    const WANTED: usize = 20;
    let x: Vec<f32> = Random::new(20).values::<f32>(COUNT).iter().map(|x| x * x * x * x).collect();
    let taken =
        |bin: u32| (0i32..).zip(&x).filter(move |(_, x)| ordered(**x) >> 24 >= bin).map(|(index, _)| index);
    let bin = (0..256).rev().find(|&bin| taken(bin).count() >= WANTED).unwrap();
    let expected: Vec<i32> = taken(bin).collect();
    let (device_x, count, indices) = (card.upload(&x), card.upload(&[0i32]), card.upload(&[-1i32; COUNT]));
    let arguments = Arguments::default().buffer(&device_x).buffer(&count).buffer(&indices);
    card.launch("topk_hist_f32", [1, 1, 1], 256, arguments.size(COUNT).size(WANTED));
    assert_same(
        card,
        "topk_hist_f32: count",
        &card.download(&count),
        &[i32::try_from(expected.len()).unwrap()],
    );
    let mut found = card.download(&indices)[..expected.len()].to_vec();
    found.sort_unstable();
    assert_same(card, "topk_hist_f32", &found, &expected);
}

fn route(card: &Card) {
    const TOKENS: usize = 3;
    const EXPERTS: usize = 160;
    const CHOSEN: usize = 8;
    const SCALING: f32 = 2.5;
    let mut random = Random::new(21);
    let (logits, bias) = (random.values::<f32>(TOKENS * EXPERTS), random.values::<f32>(EXPERTS));
    let (mut experts, mut weights) = (Vec::new(), Vec::new());
    for logits in logits.chunks_exact(EXPERTS) {
        let scores: Vec<f64> = logits.iter().map(|logit| 1.0 / (1.0 + (-logit.wide()).exp())).collect();
        let mut order: Vec<usize> = (0..EXPERTS).collect();
        order.sort_by(|&a, &b| (scores[b] + bias[b].wide()).total_cmp(&(scores[a] + bias[a].wide())));
        let total: f64 = order[..CHOSEN].iter().map(|&expert| scores[expert]).sum();
        experts.extend(order[..CHOSEN].iter().map(|&expert| i32::try_from(expert).unwrap()));
        weights.extend(order[..CHOSEN].iter().map(|&expert| scores[expert] / total * SCALING.wide()));
    }
    let (logits, bias) = (card.upload(&logits), card.upload(&bias));
    let (ids, found) = (card.upload(&[-1i32; TOKENS * CHOSEN]), card.upload(&[f32::NAN; TOKENS * CHOSEN]));
    let arguments = Arguments::default().buffer(&logits).buffer(&bias).buffer(&ids).buffer(&found);
    let arguments = arguments.size(EXPERTS).size(CHOSEN).value(SCALING);
    card.launch("moe_route", [TOKENS, 1, 1], 32, arguments);
    assert_same(card, "moe_route: experts", &card.download(&ids), &experts);
    // Exponential, score, eight additions, quotient and product: 16 roundings of weights below 1.
    assert_close(card, "moe_route: weights", &card.download(&found), &weights, 16.0 * f32::ROUNDING);
}

/// Small integers: exact in any order.
fn scatter(card: &Card) {
    const DIM: usize = 20;
    const ROWS: [i32; 7] = [2, 0, 2, 2, 1, 0, 2];
    let mut random = Random::new(22);
    let mut integers =
        |count| -> Vec<f32> { random.integers(count, 100).iter().map(|&x| x as f32 - 50.0).collect() };
    let (x, mut y) = (integers(ROWS.len() * DIM), integers(4 * DIM));
    let device_y = card.upload(&y);
    for (row, x) in ROWS.iter().zip(x.chunks_exact(DIM)) {
        for (y, x) in y[*row as usize * DIM..].iter_mut().zip(x) {
            *y += x;
        }
    }
    let (x, rows) = (card.upload(&x), card.upload(&ROWS));
    let arguments = Arguments::default().buffer(&x).buffer(&rows).buffer(&device_y);
    card.launch("scatter_add_f32", [2, 1, 1], 32, arguments.size(ROWS.len()).size(DIM));
    assert_same(card, "scatter_add_f32", &card.download(&device_y), &y);
}

#[test]
fn topk() {
    each_build(Dialect::Hip, "topk", &[], |card| {
        argmax(card);
        histogram(card);
        route(card);
        scatter(card);
    });
}
