use crate::card::{Arguments, Card, each_build};
use crate::compare::{Random, assert_same};
use crate::compile::Dialect;

/// Sums of small integers: exact in f32 in any order.
fn histogram(card: &Card) {
    let x: Vec<i32> = Random::new(6).integers(1000, 2000).iter().map(|x| x - 1000).collect();
    let mut expected = vec![0u32; 256];
    for value in &x {
        expected[(value & 255) as usize] += 1;
    }
    let (bins, sum) = (card.upload(&[0u32; 256]), card.upload(&[0f32]));
    let (greatest, device_x) = (card.upload(&[i32::MIN]), card.upload(&x));
    let arguments = Arguments::default().buffer(&bins).buffer(&sum).buffer(&greatest).buffer(&device_x);
    card.launch("atom_hist", [3, 1, 1], 256, arguments.size(x.len()));
    assert_same(card, "atom_hist: bins", &card.download(&bins), &expected);
    assert_same(card, "atom_hist: sum", &card.download(&sum), &[x.iter().sum::<i32>() as f32]);
    assert_same(card, "atom_hist: greatest", &card.download(&greatest), &[*x.iter().max().unwrap()]);
}

fn ticket(card: &Card) {
    let (lock, out) = (card.upload(&[0u32]), card.upload(&[0u32]));
    let arguments = Arguments::default().buffer(&lock).buffer(&out).value(5u32);
    card.launch("atom_ticket", [5, 1, 1], 64, arguments);
    assert_same(card, "atom_ticket: lock", &card.download(&lock), &[0]);
    assert_same(card, "atom_ticket: the last block's old value", &card.download(&out), &[5]);
}

#[test]
fn atomics() {
    each_build(Dialect::Bare, "atomics", &[], |card| {
        histogram(card);
        ticket(card);
    });
}
