//! What a launch does, counted.

use hip_emu::{Checks, Counters, KernelDescriptor, Occupancy, OccupancyLimit, Traffic};
use hsaco::CodeObject;

use crate::card::{Argument, Card, ITEMS, PLANTED};
use crate::deleted::places;

fn count(kernel: &str, groups: u32, arguments: impl Fn(&Card) -> Vec<Argument>) -> Counters {
    let card = Card::with(PLANTED, Checks::NONE, true);
    let counters = card.run(kernel, groups, arguments(&card)).unwrap();
    *counters.unwrap()
}

#[test]
fn nothing_is_counted_unasked() {
    let card = Card::new(Checks::ALL);
    assert_eq!(card.run("fill_parts", 1, [card.empty(ITEMS).into()]).unwrap(), None);
}

/// Each wave of 32 items moves 128 bytes in and out, which are whole segments.
#[test]
fn consecutive_elements_take_whole_segments() {
    let counters = count("twice", 1, |card| vec![card.empty(ITEMS).into(), card.floats(ITEMS).into()]);
    for traffic in [&counters.loads, &counters.stores] {
        let Traffic { instructions, bytes, segments, distinct_bytes, .. } = traffic;
        assert_eq!((*instructions, *bytes, *segments, *distinct_bytes), (8, 1024, [32, 16, 8], 1024));
    }
    assert_eq!(
        (counters.waves, counters.scratch, counters.barriers, counters.lds.instructions),
        (8, 0, 0, 0)
    );
    assert_eq!((counters.scalar_loads.instructions, counters.scalar_loads.bytes), (8, 8 * 16));
}

/// Every item reads another row of 128 bytes, or all read the same element.
#[test]
fn scattered_elements_take_a_segment_each() {
    let rows: Vec<u32> = (0..256).map(|item| item * 32 % 256).collect();
    for (indices, segments, distinct) in [(rows, [64, 64, 64], 256), (vec![5; 256], [8, 8, 8], 32)] {
        let counters = count("gather", 1, |card| {
            vec![card.empty(ITEMS).into(), card.floats(ITEMS).into(), card.words(&indices).into()]
        });
        // The other half of the loads reads the indices, one after the other.
        let indices = [32, 16, 8];
        let found: Vec<u64> =
            counters.loads.segments.iter().zip(indices).map(|(all, own)| all - own).collect();
        assert_eq!(found, segments);
        assert_eq!(counters.loads.distinct_bytes, 1024 + distinct);
    }
}

/// A reversed row touches every bank once.
#[test]
fn rows_of_lds_have_no_conflicts() {
    let counters =
        count("reverse_in_lds", 1, |card| vec![card.empty(ITEMS).into(), card.floats(ITEMS).into()]);
    let lds = counters.lds;
    assert_eq!((lds.instructions, lds.bytes, lds.cycles, lds.conflict_cycles), (16, 2048, 16, 0));
    assert_eq!(counters.barriers, 8);
}

#[test]
fn all_instructions_are_counted_once() {
    let card = Card::with(PLANTED, Checks::NONE, true);
    let arguments = [card.empty(3).into(), card.floats(3 * ITEMS).into(), 3_u32.into()];
    let counters = card.run("row_sums", 1, arguments).unwrap().unwrap();
    let named: Vec<&str> = counters.named().iter().map(|(name, _)| *name).collect();
    assert!(named.contains(&"lds.conflict_cycles") && named.len() == 37, "{named:?}");
    assert!(counters.branches > 0 && counters.scalar > 0 && counters.vector > 0 && counters.waits > 0);
    assert_eq!(counters.barriers, 8 * 3 * 5);
}

/// Where a hint becomes a wait for vector memory before there is any.
#[test]
fn waits_for_nothing_are_counted_where_they_are_followed() {
    let kernel = "reverse_in_lds";
    let [hint, wait] =
        ["s_delay_alu", "s_waitcnt vmcnt(0)"].map(|text| places(PLANTED, kernel, text)[0].clone());
    let mut changed = PLANTED.to_vec();
    changed.copy_within(wait, hint.start);
    for (image, checks, idle) in
        [(PLANTED, Checks::ALL, 0), (&changed[..], Checks::ALL, 8), (&changed[..], Checks::NONE, 0)]
    {
        let card = Card::with(image, checks, true);
        let counters =
            card.run(kernel, 1, [card.empty(ITEMS).into(), card.floats(ITEMS).into()]).unwrap().unwrap();
        // Four waits, the hint, and an invalidation of a cache, in each of eight waves.
        assert_eq!((counters.waits, counters.idle_waits), (6 * 8, idle));
    }
}

#[test]
fn occupancy_is_what_registers_and_lds_leave() {
    let object = CodeObject::parse(PLANTED).unwrap();
    let kernel = object.kernels().iter().find(|kernel| kernel.name == "twice").unwrap();
    let (_, mut descriptor) = KernelDescriptor::find(object.elf(), &kernel.descriptor).unwrap();
    let of = |registers: u32, waves: u32, lds: u32, descriptor: &mut KernelDescriptor| {
        descriptor.resource1 = descriptor.resource1 & !63 | (registers / 8 - 1);
        let Occupancy { waves, limit } = Occupancy::of(descriptor, "gfx1100", waves, lds).unwrap();
        (waves, limit)
    };
    assert_eq!(of(96, 8, 0, &mut descriptor), (16, OccupancyLimit::Hardware));
    assert_eq!(of(104, 8, 0, &mut descriptor), (12, OccupancyLimit::VectorRegisters));
    assert_eq!(of(256, 8, 0, &mut descriptor), (5, OccupancyLimit::VectorRegisters));
    assert_eq!(of(96, 8, 65_536, &mut descriptor), (4, OccupancyLimit::Lds));
    assert_eq!(of(96, 1, 65_536, &mut descriptor), (1, OccupancyLimit::Lds));

    // 64 or, with granules of four, 32 registers; and two of the largest count.
    for (processor, of_eight, of_many) in [
        ("gfx906", 8, 2),
        ("gfx90a", 8, 2),
        ("gfx942", 8, 2),
        ("gfx1010", 16, 4),
        ("gfx1030", 16, 4),
        ("gfx1102", 16, 4),
        ("gfx1201", 16, 5),
    ] {
        let mut waves = |count: u32| {
            descriptor.resource1 = descriptor.resource1 & !63 | (count - 1);
            Occupancy::of(&descriptor, processor, 4, 0).unwrap().waves
        };
        assert_eq!((waves(8), waves(32)), (of_eight, of_many), "{processor}");
    }
    assert_eq!(Occupancy::of(&descriptor, "gfx803", 4, 0), None);
}
