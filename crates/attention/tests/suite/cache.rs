//! The cache's length advances when every layer has done its part, and never else.

use attention::{AttentionError, KvCache, KvDType, attend};
use device_mem::{DType, Device, View};
use parity::{Tolerance, compare};

use crate::common::{Pass, cache, devices, gpus, on, shape};

fn append(cache: &mut KvCache, layer: usize, pass: &Pass) {
    let device = cache.device().clone();
    let (k, v) = (on(&device, &pass.k), on(&device, &pass.v));
    cache.layer(layer).unwrap().append(k.as_view(), v.as_view(), pass.tokens).unwrap();
}

#[test]
fn sizes_are_those_of_the_key_and_value_heads() {
    for (dtype, size) in [(KvDType::F32, 4), (KvDType::F16, 2), (KvDType::BF16, 2)] {
        let cache = KvCache::new(&Device::Cpu, 3, shape(32, 2, 128), 10, dtype).unwrap();
        assert_eq!(cache.bytes(), 2 * 3 * 10 * 2 * 128 * size);
        assert_eq!((cache.len(), cache.capacity(), cache.layers(), cache.dtype()), (0, 10, 3, dtype));
        assert!(cache.is_empty() && cache.shape() == shape(32, 2, 128) && cache.device().same(&Device::Cpu));
    }
    assert_eq!(KvDType::default(), KvDType::BF16);
}

#[test]
fn types_read_and_print() {
    for (text, dtype) in [("f32", DType::F32), ("f16", DType::F16), ("bf16", DType::BF16)] {
        let kv: KvDType = text.parse().unwrap();
        assert_eq!((kv.to_string().as_str(), kv.dtype()), (text, dtype));
    }
    for text in ["", "F32", "q8_0", "u32"] {
        let error = text.parse::<KvDType>().unwrap_err();
        assert_eq!(error.found, text);
        assert!(error.to_string().contains("expected f32, f16 or bf16"), "{error}");
    }
}

#[test]
fn all_memory_is_taken_when_a_cache_is_made() {
    for device in gpus() {
        let before = device.transfers();
        let mut cache = KvCache::new(&device, 3, shape(4, 2, 60), 1100, KvDType::F16).unwrap();
        // Rows of 60 elements are 64 wide.
        assert_eq!(cache.bytes(), 2 * 3 * 1100 * 2 * 64 * 2);
        // Two spans of the one tile of each head: 16 rows of 64 and 2, and a counter of each tile.
        let sums = 4 * (2 * 2 * 16 * 66 + 2);
        let counted = KvCache::bytes_of(&device, 3, shape(4, 2, 60), 1100, KvDType::F16).unwrap();
        assert_eq!(counted, cache.bytes() + sums);
        let made = device.transfers();
        assert_eq!(
            made.allocations - before.allocations,
            2 * 3 + 2,
            "K and V of each layer, and two for spans"
        );
        assert_eq!((made.uploads, made.downloads), (before.uploads, before.downloads));
        let pass = Pass::new(1, shape(4, 2, 60), 300, 1.0);
        for layer in 0..3 {
            append(&mut cache, layer, &pass);
        }
        cache.commit(300).unwrap();
        drop(cache);
        let short = KvCache::new(&device, 1, shape(4, 2, 60), 1024, KvDType::F16).unwrap();
        assert_eq!(device.transfers().drop_errors, 0);
        assert_eq!(short.capacity(), 1024);
    }
}

#[test]
fn a_pass_that_fails_between_layers_can_be_repeated() {
    let shape = shape(4, 2, 16);
    let whole = Pass::new(1, shape, 40, 4.0);
    let (prompt, next) = (whole.tokens(0, 38), whole.tokens(38, 40));
    for device in devices() {
        let mut cache = KvCache::new(&device, 2, shape, 64, KvDType::F32).unwrap();
        append(&mut cache, 0, &prompt);
        append(&mut cache, 1, &prompt);
        cache.commit(38).unwrap();

        // Another pass reaches layer 0 only.
        append(&mut cache, 0, &Pass::new(99, shape, 7, 4.0));
        let error = cache.commit(7).unwrap_err();
        assert!(matches!(error, AttentionError::Uncommitted { layer: 1, expected: 7, found: 0 }), "{error}");
        assert_eq!(cache.len(), 38);

        let (q, k, v) = (on(&device, &next.q), on(&device, &next.k), on(&device, &next.v));
        let expected = whole.run_alone(&device, KvDType::F32);
        for index in 0..2 {
            let mut layer = cache.layer(index).unwrap();
            assert_eq!(layer.len(), 38);
            layer.append(k.as_view(), v.as_view(), 2).unwrap();
            let mut out = on(&device, &vec![0.0; next.q.len()]);
            attend(q.as_view(), 2, &mut layer, out.as_view_mut().unwrap()).unwrap();
            compare(&expected[38 * 64..], &out.to_host_vec().unwrap(), Tolerance::Bits).unwrap();
        }
        cache.commit(2).unwrap();
        assert_eq!(cache.len(), 40);
        assert!(matches!(
            cache.commit(2),
            Err(AttentionError::Uncommitted { layer: 0, expected: 2, found: 0 })
        ));
    }
}

#[test]
fn truncation_goes_back_and_only_back() {
    let pass = Pass::new(2, shape(2, 1, 16), 50, 4.0);
    for device in devices() {
        let whole = pass.run_alone(&device, KvDType::F32);
        let mut cache = cache(&device, pass.shape, 50, KvDType::F32);
        pass.run(&mut cache);
        cache.truncate(20).unwrap();
        assert_eq!(cache.len(), 20);
        compare(&whole[20 * 32..], &pass.tokens(20, 50).run(&mut cache), Tolerance::Bits).unwrap();

        let error = cache.truncate(51).unwrap_err();
        assert!(matches!(error, AttentionError::Truncate { len: 50, asked: 51 }), "{error}");
        assert_eq!(cache.len(), 50);
        cache.truncate(50).unwrap();
        cache.clear();
        assert!(cache.is_empty());
        compare(&whole, &pass.run(&mut cache), Tolerance::Bits).unwrap();
    }
}

#[test]
fn truncation_forgets_what_was_not_committed() {
    let pass = Pass::new(3, shape(2, 1, 16), 5, 1.0);
    let mut cache = cache(&Device::Cpu, pass.shape, 20, KvDType::F32);
    append(&mut cache, 0, &pass);
    cache.truncate(0).unwrap();
    assert!(matches!(cache.commit(5), Err(AttentionError::Uncommitted { found: 0, .. })));
}

#[test]
fn a_full_cache_refuses_and_keeps_what_it_has() {
    let pass = Pass::new(4, shape(2, 1, 16), 10, 4.0);
    let mut cache = cache(&Device::Cpu, pass.shape, 10, KvDType::F32);
    pass.tokens(0, 8).run(&mut cache);
    let more = pass.tokens(7, 10);
    let refused = |cache: &mut KvCache, tokens: u32, k: &[f32]| {
        let mut layer = cache.layer(0).unwrap();
        layer.append(View::Host(k), View::Host(k), tokens).unwrap_err()
    };
    let error = refused(&mut cache, 3, &more.k);
    assert!(matches!(error, AttentionError::Capacity { len: 8, tokens: 3, capacity: 10 }), "{error}");
    assert!(error.to_string().contains("larger KvCache"), "{error}");
    assert!(matches!(refused(&mut cache, u32::MAX, &[]), AttentionError::Capacity { .. }));
    assert!(matches!(cache.commit(3), Err(AttentionError::Capacity { .. })));

    assert_eq!(cache.len(), 8);
    let whole = pass.run_alone(&Device::Cpu, KvDType::F32);
    compare(&whole[8 * 32..], &pass.tokens(8, 10).run(&mut cache), Tolerance::Bits).unwrap();
}

#[test]
fn no_tokens_are_a_pass_too() {
    let shape = shape(2, 1, 16);
    for device in devices() {
        let mut cache = cache(&device, shape, 0, KvDType::F32);
        assert!(Pass::new(5, shape, 0, 1.0).run(&mut cache).is_empty());
        assert_eq!((cache.len(), cache.bytes()), (0, 0));
    }
}
