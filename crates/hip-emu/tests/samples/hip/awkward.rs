//! What ordinary code also produces: private memory by index, calls by pointer, traps, blocks that wait for others.

use crate::card::{Arguments, Card, each_build};
use crate::compare::{Random, assert_same};
use crate::compile::Dialect;

const THREADS: usize = 64;

fn private_memory(card: &Card) {
    const STEPS: usize = 40;
    let x = Random::new(25).integers(STEPS, 1024);
    let thread = |thread: i32| {
        let mut a: [i32; 32] = std::array::from_fn(|i| x[i].wrapping_mul(thread));
        for x in &x {
            let (to, from) = ((x & 31) as usize, (x >> 5 & 31) as usize);
            a[to] = a[to].wrapping_add(a[from]);
        }
        a[STEPS & 31]
    };
    let expected: Vec<i32> = (0i32..).map(thread).take(THREADS).collect();
    let (device_x, y) = (card.upload(&x), card.upload(&[i32::MIN; THREADS]));
    let arguments = Arguments::default().buffer(&device_x).buffer(&y).size(STEPS);
    card.launch("scratch_dyn", [1, 1, 1], THREADS, arguments);
    assert_same(card, "scratch_dyn", &card.download(&y), &expected);
}

fn calls(card: &Card) {
    let choice = Random::new(26).integers(THREADS, 8);
    let call = |(thread, choice): (i32, &i32)| if choice & 1 == 0 { thread * 3 + 1 } else { thread ^ 0x55 };
    let expected: Vec<i32> = (0..).zip(&choice).map(call).collect();
    let (choice, y) = (card.upload(&choice), card.upload(&[i32::MIN; THREADS]));
    card.launch("indirect_call", [1, 1, 1], THREADS, Arguments::default().buffer(&choice).buffer(&y));
    assert_same(card, "indirect_call", &card.download(&y), &expected);
}

/// A negative value traps; the card runs kernels afterwards.
fn trap(card: &Card) {
    let mut x = [1i32; THREADS];
    card.launch("trap_if", [1, 1, 1], THREADS, Arguments::default().buffer(&card.upload(&x)));
    x[37] = -1;
    let result =
        card.try_launch("trap_if", [1, 1, 1], THREADS, 0, Arguments::default().buffer(&card.upload(&x)));
    let Err(error) = result else { panic!("{}: trap_if: no error", card.label()) };
    assert!(error.to_string().contains("trap"), "{}: trap_if: {error}", card.label());
    calls(card);
}

/// Small integers: exact in any order. The counter wraps to 0 for the next launch.
fn last_block(card: &Card) {
    const BLOCKS: usize = 7;
    let x: Vec<f32> = Random::new(27).integers(1000, 100).iter().map(|&x| x as f32).collect();
    let (device_x, parts) = (card.upload(&x), card.upload(&[f32::NAN; BLOCKS]));
    let (done, out) = (card.upload(&[0u32]), card.upload(&[f32::NAN]));
    for launch in ["first launch", "second launch"] {
        let arguments = Arguments::default().buffer(&device_x).buffer(&parts).buffer(&done).buffer(&out);
        card.launch("last_block", [BLOCKS, 1, 1], 32, arguments.size(x.len()));
        assert_same(card, &format!("last_block, {launch}"), &card.download(&out), &[x.iter().sum::<f32>()]);
        assert_same(card, &format!("last_block, {launch}: done"), &card.download(&done), &[0]);
    }
}

fn votes(card: &Card) {
    let (lanes, threads) = (card.lanes(), 2 * card.lanes());
    let mut x: Vec<i32> = Random::new(28).integers(threads, 200).iter().map(|x| x - 100).collect();
    x[lanes..].iter_mut().for_each(|x| *x = x.abs() + 1); // the second wave agrees
    let wave = |x: &[i32]| -> Vec<u64> {
        let positive = |x: &i32| *x > 0;
        let ballot = x.iter().rev().fold(0u64, |bits, x| bits << 1 | u64::from(positive(x)));
        let counts = i32::from(x.iter().all(positive)) + i32::from(x.iter().any(positive));
        let lane = |lane: usize| {
            let up = x[lane.saturating_sub(1)];
            let down = if lane + 2 < lanes { x[lane + 2] } else { x[lane] };
            let row_shift = if lane.is_multiple_of(16) { 0 } else { x[lane - 1] };
            ballot.wrapping_add_signed(i64::from(counts + up + down + x[0] + row_shift + x[lane ^ 1]))
        };
        (0..lanes).map(lane).collect()
    };
    let expected: Vec<u64> = x.chunks_exact(lanes).flat_map(wave).collect();
    let (x, y) = (card.upload(&x), card.upload(&vec![0u64; threads]));
    card.launch("votes", [1, 1, 1], threads, Arguments::default().buffer(&x).buffer(&y));
    assert_same(card, "votes", &card.download(&y), &expected);
}

/// Blocks spin until another one lets go.
fn lock(card: &Card) {
    let (lock, value) = (card.upload(&[0i32]), card.upload(&[100i32]));
    card.launch("cas_lock", [9, 1, 1], THREADS, Arguments::default().buffer(&lock).buffer(&value));
    assert_same(card, "cas_lock: lock", &card.download(&lock), &[0]);
    assert_same(card, "cas_lock", &card.download(&value), &[109]);
}

#[test]
fn awkward() {
    each_build(Dialect::Hip, "awkward", &[], |card| {
        private_memory(card);
        calls(card);
        trap(card);
        last_block(card);
        votes(card);
        lock(card);
    });
}
