//! A paged cache gives the bits of a contiguous one, wherever its blocks lie.

use attention::{AttentionError, KvCache, KvDType};
use device_mem::{Device, MemError};
use kernels_rope::{BlockTable, RopeError};
use parity::{Tolerance, compare};

use crate::bounds::within;
use crate::common::{KV_TYPES, Pass, devices, gpus, on, paged, shape};
use crate::truth::Order;

#[test]
fn shuffled_blocks_change_no_bit() {
    // Of blocks of less than 32 tokens and heads of 128 with 16 bits, single tokens are attended in an order of their own.
    let shapes = [(4, 2, 64), (6, 2, 40), (17, 1, 120), (17, 1, 128), (2, 2, 16), (32, 2, 128), (3, 1, 128)];
    let blocks = [1, 2, 16, 32, 64, 256, 32];
    for (index, block_size) in blocks.into_iter().enumerate() {
        let (q_heads, kv_heads, head_dim) = shapes[index];
        let tokens = [33, 65, 129, 270][index % 4];
        let dtype = KV_TYPES[index % 3];
        let dtype = if head_dim == 128 { KvDType::BF16 } else { dtype };
        let pass = Pass::new(index as u64, shape(q_heads, kv_heads, head_dim), tokens, 4.0);
        for device in devices() {
            let cut = tokens - 2;
            let expected = pass.run_in_pieces(&device, &[cut, cut + 1, tokens], dtype);
            let mut cache = paged(&device, pass.shape, tokens, block_size, dtype);
            let row = (q_heads * head_dim) as usize;
            // A prefill, and two tokens each by itself.
            for (from, to) in [(0, cut), (cut, cut + 1), (cut + 1, tokens)] {
                let got = pass.tokens(from, to).run(&mut cache);
                let what = format!("{}, blocks of {block_size}, {from}..{to} on {device}", pass.shape);
                compare(&expected[from as usize * row..to as usize * row], &got, Tolerance::Bits)
                    .unwrap_or_else(|mismatch| panic!("{what}: {mismatch}"));
            }
        }
    }
}

#[test]
fn small_blocks_keep_the_bound() {
    let pass = Pass::new(8, shape(8, 1, 128), 300, 4.0);
    for dtype in [KvDType::F16, KvDType::BF16] {
        let order = Order::hip(dtype, pass.shape, 1);
        let exact = pass.exact_from(299, dtype, order);
        for device in gpus() {
            let mut cache = paged(&device, pass.shape, 300, 16, dtype);
            pass.tokens(0, 299).append_only(&mut cache);
            let got = pass.tokens(299, 300).run(&mut cache);
            within(&format!("{dtype} on {device}"), &exact, order, &got);
        }
    }
}

#[test]
fn a_split_over_spans_reads_blocks_too() {
    let pass = Pass::new(5, shape(2, 1, 32), 1100, 3.0);
    for device in gpus() {
        let last = |mut cache: KvCache| {
            pass.tokens(0, 1099).append_only(&mut cache);
            pass.tokens(1099, 1100).run(&mut cache)
        };
        let expected = last(crate::common::cache(&device, pass.shape, 1100, KvDType::F16));
        let got = last(paged(&device, pass.shape, 1100, 16, KvDType::F16));
        compare(&expected, &got, Tolerance::Bits).unwrap();
    }
}

#[test]
fn a_prefix_is_seen_across_blocks() {
    let pass = Pass { prefix: 50, ..Pass::new(6, shape(4, 2, 32), 60, 4.0) };
    for device in devices() {
        let expected = pass.run_alone(&device, KvDType::BF16);
        let got = pass.run(&mut paged(&device, pass.shape, 60, 8, KvDType::BF16));
        compare(&expected, &got, Tolerance::Bits).unwrap();
    }
}

#[test]
fn sequences_do_not_meet() {
    let shape = shape(4, 2, 24);
    let passes = [40_u32, 7, 65].map(|tokens| Pass::new(tokens.into(), shape, tokens, 4.0));
    for device in devices() {
        let table = BlockTable::new(&device, 20, 8, 3, 9).unwrap();
        let paged = KvCache::paged(&device, 1, shape, table, KvDType::BF16).unwrap();
        let plain = KvCache::for_sequences(&device, 1, shape, 3, 72, KvDType::BF16).unwrap();
        for mut cache in [paged, plain] {
            if cache.table().is_some() {
                let blocks = crate::common::shuffled(20);
                let (first, rest) = blocks.split_at(5);
                cache.assign(0, first).unwrap();
                cache.assign(1, &rest[..1]).unwrap();
                cache.assign(2, &rest[1..10]).unwrap();
            }
            assert_eq!(cache.capacity(), 72);
            for (sequence, pass) in (0..).zip(&passes) {
                let got = pass.run_sequence(&mut cache, sequence);
                compare(&pass.run_alone(&device, KvDType::BF16), &got, Tolerance::Bits).unwrap();
            }
            assert_eq!(cache.lens(), [40, 7, 65]);
            cache.truncate_sequence(1, 3).unwrap();
            let again = passes[1].tokens(3, 7).run_sequence(&mut cache, 1);
            let expected = passes[1].run_alone(&device, KvDType::BF16);
            compare(&expected[3 * 96..], &again, Tolerance::Bits).unwrap();
            cache.clear();
            assert!(cache.is_empty());
        }
    }
}

#[test]
fn blocks_that_do_not_fit_are_refused() {
    for device in devices() {
        for block_size in [0, 3, 48] {
            let error = BlockTable::new(&device, 4, block_size, 1, 4).unwrap_err();
            assert!(matches!(error, RopeError::BlockSize { .. }), "{error}");
        }
        let error = BlockTable::new(&device, 4, 1 << 20, 1, 1 << 12).unwrap_err();
        assert!(matches!(error, RopeError::TableSpan { .. }), "{error}");

        let table = BlockTable::new(&device, 6, 4, 2, 3).unwrap();
        let mut cache = KvCache::paged(&device, 1, shape(2, 1, 8), table, KvDType::F32).unwrap();
        cache.assign(0, &[5, 0]).unwrap();
        let before = device.transfers();
        let refused = |cache: &mut KvCache, sequence: u32, blocks: &[u32]| {
            let error = cache.assign(sequence, blocks).unwrap_err();
            assert_eq!(device.transfers(), before, "{error}");
            error
        };
        let error = refused(&mut cache, 2, &[1]);
        assert!(
            matches!(error, AttentionError::Rope(RopeError::Sequence { sequence: 2, sequences: 2 })),
            "{error}"
        );
        let error = refused(&mut cache, 1, &[1, 2, 3, 4]);
        assert!(
            matches!(error, AttentionError::Rope(RopeError::BlockCount { found: 4, most: 3 })),
            "{error}"
        );
        let error = refused(&mut cache, 1, &[1, 6]);
        assert!(
            matches!(error, AttentionError::Rope(RopeError::Block { block: 6, index: 1, blocks: 6 })),
            "{error}"
        );
        for blocks in [[1, 1], [1, 5]] {
            let error = refused(&mut cache, 1, &blocks);
            assert!(matches!(error, AttentionError::Rope(RopeError::BlockTaken { index: 1, .. })), "{error}");
        }
        assert_eq!(cache.table().unwrap().blocks_of(0).unwrap(), [5, 0]);
        assert!(cache.table().unwrap().blocks_of(1).unwrap().is_empty());

        // 8 tokens have blocks, so a ninth does not fit; and those of committed tokens stay.
        let pass = Pass::new(1, shape(2, 1, 8), 9, 1.0);
        pass.tokens(0, 5).run(&mut cache);
        let before = device.transfers();
        let error = cache.assign(0, &[5, 1]).unwrap_err();
        assert!(matches!(error, AttentionError::BlocksInUse { sequence: 0, len: 5, blocks: 2 }), "{error}");
        assert_eq!(device.transfers(), before);
        pass.tokens(5, 8).run(&mut cache);
        let ninth = pass.tokens(8, 9);
        let (k, v) = (on(&device, &ninth.k), on(&device, &ninth.v));
        let error = cache.layer(0).unwrap().append(k.as_view(), v.as_view(), 1).unwrap_err();
        assert!(matches!(error, AttentionError::Capacity { len: 8, tokens: 1, capacity: 8 }), "{error}");
        cache.assign(0, &[5, 0, 3]).unwrap();
        compare(&pass.run_alone(&device, KvDType::F32)[8 * 16..], &ninth.run(&mut cache), Tolerance::Bits)
            .unwrap();
    }
}

#[test]
fn a_table_is_for_a_paged_cache_on_its_device() {
    let devices = devices();
    let table = BlockTable::new(&devices[1], 2, 4, 1, 2).unwrap();
    let error = KvCache::paged(&devices[0], 1, shape(2, 1, 8), table, KvDType::F32).unwrap_err();
    assert!(matches!(error, AttentionError::Mem(MemError::ForeignDevice { .. })), "{error}");
    let mut plain = KvCache::new(&Device::Cpu, 1, shape(2, 1, 8), 4, KvDType::F32).unwrap();
    assert!(matches!(plain.assign(0, &[0]), Err(AttentionError::NotPaged)));
    let error = plain.layer_of(0, 1).unwrap_err();
    assert!(
        matches!(error, AttentionError::Rope(RopeError::Sequence { sequence: 1, sequences: 1 })),
        "{error}"
    );
}
