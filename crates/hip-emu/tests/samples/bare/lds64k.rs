use crate::card::{Arguments, each_build};
use crate::compare::{Random, assert_same};
use crate::compile::Dialect;

const SLOTS: usize = 16384;

#[test]
fn lds64k() {
    each_build(Dialect::Bare, "lds64k", &[], |card| {
        for count in [SLOTS, 10_000] {
            let mut x = Random::new(5).values::<f32>(count);
            let (y, device_x) = (card.upload(&vec![f32::NAN; SLOTS]), card.upload(&x));
            let arguments = Arguments::default().buffer(&y).buffer(&device_x).size(count);
            card.launch("lds64k", [1, 1, 1], 256, arguments);
            x.resize(SLOTS, 0.0);
            x.reverse();
            assert_same(card, "lds64k", &card.download(&y), &x);
        }
    });
}
