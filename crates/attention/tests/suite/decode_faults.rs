//! What `decode_attention` does with steps that cannot be taken.

use attention::{AttentionError, HeadNorm, KvCache, KvDType, NewTokens, attend_next, decode_attention};
use device_mem::{Device, DeviceBuffer, MemError};
use kernels_rope::{BlockTable, Pairing, RopeError};
use parity::{Tolerance, compare};

use crate::common::{Pass, devices, gpus, on, shape};
use crate::decode::{Step, spec, table};

/// What only the device knows is checked there: nothing is appended, and the result is NaN.
#[test]
fn lengths_and_positions_beyond_the_end_give_nan() {
    let shape = shape(4, 2, 32);
    for device in gpus() {
        let table = table(&device, spec(32, 16, Pairing::Interleaved), 64);
        let step = Step::new(1, shape, 1);
        let mut paged =
            KvCache::paged(&device, 1, shape, BlockTable::new(&device, 6, 8, 1, 6).unwrap(), KvDType::F32)
                .unwrap();
        paged.assign(0, &[4, 1, 0, 5]).unwrap();
        let plain = crate::common::cache(&device, shape, 32, KvDType::F32);
        for mut cache in [plain, paged] {
            let prompt = Pass::new(2, shape, 31, 2.0);
            prompt.append_only(&mut cache);
            let before = prompt.tokens(30, 31);
            cache.truncate(30).unwrap();
            // Token 32 has no room; token 40 and u32::MAX are not even in the table; position 64 is not in the rotation's.
            for (position, len) in [(0, 32), (0, 40), (0, u32::MAX), (64, 30), (u32::MAX, 30)] {
                let got = step.run(&table, &[position], &[len], &mut cache);
                assert!(got.iter().all(|value| value.is_nan()), "{position}, {len} on {device}");
            }
            cache.clear();
            prompt.tokens(0, 30).append_only(&mut cache);
            let expected = prompt.run_alone(&device, KvDType::F32);
            compare(&expected[30 * 128..], &before.run(&mut cache), Tolerance::Bits).unwrap();
        }
    }
}

#[test]
fn refusals_come_before_anything_is_launched() {
    let devices = devices();
    for (device, other) in devices.iter().zip(devices.iter().cycle().skip(1)) {
        let shape = shape(4, 2, 8);
        let table = table(device, spec(8, 4, Pairing::Interleaved), 16);
        let mut cache = KvCache::for_sequences(device, 1, shape, 2, 5, KvDType::F16).unwrap();
        let (q, kv, zeros) = (on(device, &[1.0; 64]), on(device, &[1.0; 32]), on(device, &[0_u32; 3]));
        let elsewhere = on(other, &[0_u32; 2]);
        let mut out = on(device, &[7.0; 64]);
        let before = device.transfers();
        let mut refused = |cache: &mut KvCache,
                           sequences: u32,
                           positions: &DeviceBuffer<u32>,
                           lengths: &DeviceBuffer<u32>,
                           counts: [usize; 2],
                           out_len: usize| {
            let (q_len, kv_len) = (sequences as usize * 32, sequences as usize * 16);
            let (k, v) = (kv.view(0..kv_len).unwrap(), kv.view(0..kv_len).unwrap());
            let tokens = NewTokens::new(q.view(0..q_len).unwrap(), k, v, sequences, shape).unwrap();
            let positions = positions.view(0..counts[0]).unwrap();
            let lengths = lengths.view(0..counts[1]).unwrap();
            let out = out.view_mut(0..out_len).unwrap();
            decode_attention(tokens, None, &table, positions, lengths, &mut cache.layer(0).unwrap(), out)
                .unwrap_err()
        };
        let error = refused(&mut cache, 1, &zeros, &zeros, [1, 1], 32);
        assert!(matches!(error, AttentionError::Sequences { expected: 2, found: 1 }), "{error}");
        let error = refused(&mut cache, 2, &zeros, &zeros, [3, 2], 64);
        assert!(
            matches!(error, AttentionError::Length { operand: "positions", expected: 2, found: 3 }),
            "{error}"
        );
        let error = refused(&mut cache, 2, &zeros, &zeros, [2, 1], 64);
        assert!(
            matches!(error, AttentionError::Length { operand: "lengths", expected: 2, found: 1 }),
            "{error}"
        );
        let error = refused(&mut cache, 2, &zeros, &zeros, [2, 2], 63);
        assert!(matches!(error, AttentionError::OperandLength { operand: "out", found: 63, .. }), "{error}");
        for (positions, lengths) in [(&elsewhere, &zeros), (&zeros, &elsewhere)] {
            let error = refused(&mut cache, 2, positions, lengths, [2, 2], 64);
            assert!(matches!(error, AttentionError::Mem(MemError::ForeignDevice { .. })), "{error}");
        }
        assert_eq!(device.transfers(), before);

        let error = NewTokens::packed(q.as_view(), 2, shape).unwrap_err();
        let AttentionError::OperandLength { operand: "qkv", heads: 8, .. } = error else { panic!("{error}") };
        let wrong = crate::decode::table(device, spec(16, 4, Pairing::Interleaved), 16);
        let tokens = NewTokens::new(q.as_view(), kv.as_view(), kv.as_view(), 2, shape).unwrap();
        let two = zeros.view(0..2).unwrap();
        let norm = HeadNorm { q_weight: kv.view(0..8).unwrap(), k_weight: kv.view(0..7).unwrap(), eps: 0.0 };
        let mut layer = cache.layer(0).unwrap();
        let error = decode_attention(tokens, None, &wrong, two, two, &mut layer, out.as_view_mut().unwrap());
        assert!(matches!(
            error,
            Err(AttentionError::Rope(RopeError::HeadDim { expected: 16, found: 8, .. }))
        ));
        let error =
            decode_attention(tokens, Some(norm), &table, two, two, &mut layer, out.as_view_mut().unwrap());
        assert!(matches!(error, Err(AttentionError::Length { operand: "k_weight", expected: 8, found: 7 })));
        let error = attend_next(q.as_view(), two, &mut layer, out.as_view_mut().unwrap()).unwrap_err();
        assert!(matches!(error, AttentionError::Uncommitted { expected: 1, found: 0, .. }), "{error}");

        let five = Pass::new(1, shape, 5, 1.0);
        five.append_to(&mut cache, 1);
        let full = on(device, &[0_u32, 5]);
        let before = device.transfers();
        let mut layer = cache.layer(0).unwrap();
        let error = decode_attention(
            tokens,
            None,
            &table,
            two,
            full.as_view(),
            &mut layer,
            out.as_view_mut().unwrap(),
        );
        assert!(
            matches!(error, Err(AttentionError::Capacity { len: 5, tokens: 1, capacity: 5 })),
            "{error:?}"
        );
        assert_eq!(device.transfers(), before);
        assert!(out.to_host_vec().unwrap().iter().all(|&value| value == 7.0));
    }
    // On the CPU the positions can be read.
    let table = table(&Device::Cpu, spec(8, 4, Pairing::Interleaved), 16);
    let mut cache = crate::common::cache(&Device::Cpu, shape(1, 1, 8), 5, KvDType::F32);
    let (x, at, mut out) =
        (on(&Device::Cpu, &[1.0; 8]), on(&Device::Cpu, &[16_u32]), on(&Device::Cpu, &[7.0; 8]));
    let tokens = NewTokens::new(x.as_view(), x.as_view(), x.as_view(), 1, shape(1, 1, 8)).unwrap();
    let lengths = on(&Device::Cpu, &[0_u32]);
    let mut layer = cache.layer(0).unwrap();
    let out = out.as_view_mut().unwrap();
    let error =
        decode_attention(tokens, None, &table, at.as_view(), lengths.as_view(), &mut layer, out).unwrap_err();
    assert!(matches!(error, AttentionError::Rope(RopeError::Position { position: 16, .. })), "{error}");
}
