//! Every refusal names the thing, what was found and the remedy.

use attention::{AttentionError, AttentionShape, KvCache, KvDType, Qkv, attend};
use device_mem::{Device, MemError, View, ViewMut};

use crate::common::{Pass, cache, shape};

#[test]
fn head_counts_that_do_not_divide_are_refused() {
    for (q_heads, kv_heads, head_dim) in [(0, 1, 8), (1, 0, 8), (0, 0, 8), (4, 2, 0), (4, 3, 8), (2, 4, 8)] {
        let error = AttentionShape::new(q_heads, kv_heads, head_dim).unwrap_err();
        assert!(matches!(error, AttentionError::Shape { .. }), "{error}");
        let text = format!("q_heads {q_heads}, kv_heads {kv_heads}, head_dim {head_dim}");
        assert!(error.to_string().contains(&text) && error.to_string().contains("config"), "{error}");
    }
    let shape = shape(32, 2, 128);
    assert_eq!((shape.q_heads(), shape.kv_heads(), shape.head_dim(), shape.group()), (32, 2, 128, 16));
}

#[test]
fn caches_beyond_memory_are_refused_not_attempted() {
    let huge = AttentionShape::new(u32::MAX, u32::MAX, u32::MAX).unwrap();
    let error = KvCache::new(&Device::Cpu, 1, huge, u32::MAX, KvDType::F32).unwrap_err();
    assert!(matches!(error, AttentionError::CacheSize { layers: 1, capacity: u32::MAX, .. }), "{error}");
    let error = KvCache::new(&Device::Cpu, usize::MAX, shape(1, 1, 2), 4, KvDType::F32).unwrap_err();
    assert!(matches!(error, AttentionError::CacheSize { .. }), "{error}");
    assert!(error.to_string().contains("smaller capacity"), "{error}");
    // Addressable, but more than any host maps: 2^58 bytes.
    let wide = AttentionShape::new(1 << 12, 1 << 12, 1 << 12).unwrap();
    let error = KvCache::new(&Device::Cpu, 1, wide, u32::MAX, KvDType::F32).unwrap_err();
    assert!(matches!(error, AttentionError::Mem(MemError::HostOutOfMemory { .. })), "{error}");
}

#[test]
fn a_layer_that_is_not_there_is_refused() {
    let mut cache = cache(shape(1, 1, 4), 4, KvDType::F32);
    let error = cache.layer(1).unwrap_err();
    assert!(matches!(error, AttentionError::Layer { index: 1, layers: 1 }), "{error}");
}

#[test]
fn operands_of_the_wrong_length_are_refused() {
    let shape = shape(4, 2, 8);
    let (mut q, mut k, v) = (vec![0.0; 3 * 32], vec![0.0; 3 * 16], vec![0.0; 3 * 16]);
    for operand in ["q", "k", "v"] {
        let cut = |name: &str, len: usize| if name == operand { len - 1 } else { len };
        let (q_len, k_len, v_len) = (cut("q", 96), cut("k", 48), cut("v", 48));
        let (q, k) = (ViewMut::Host(&mut q[..q_len]), ViewMut::Host(&mut k[..k_len]));
        let error = Qkv::new(q, k, View::Host(&v[..v_len]), 3, shape).unwrap_err();
        let AttentionError::OperandLength { operand: named, tokens: 3, head_dim: 8, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(named, operand);
    }
    let mut cache = cache(shape, 10, KvDType::F16);
    let mut layer = cache.layer(0).unwrap();
    let error = layer.append(View::Host(&k), View::Host(&v[1..]), 3).unwrap_err();
    assert!(matches!(error, AttentionError::OperandLength { operand: "v", found: 47, .. }), "{error}");
}

#[test]
fn attending_needs_what_was_appended() {
    let pass = Pass::new(1, shape(4, 2, 8), 3, 1.0);
    let mut cache = cache(pass.shape, 10, KvDType::F16);
    let mut layer = cache.layer(0).unwrap();
    let mut out = vec![7.0; pass.q.len()];
    let error = attend(View::Host(&pass.q), 3, &layer, ViewMut::Host(&mut out)).unwrap_err();
    assert!(matches!(error, AttentionError::Uncommitted { layer: 0, expected: 3, found: 0 }), "{error}");
    layer.append(View::Host(&pass.k), View::Host(&pass.v), 3).unwrap();
    let error = attend(View::Host(&pass.q[1..]), 3, &layer, ViewMut::Host(&mut out)).unwrap_err();
    assert!(matches!(error, AttentionError::OperandLength { operand: "q", .. }), "{error}");
    let error = attend(View::Host(&pass.q), 3, &layer, ViewMut::Host(&mut out[1..])).unwrap_err();
    assert!(matches!(error, AttentionError::OperandLength { operand: "out", .. }), "{error}");
    assert!(out.iter().all(|&value| value == 7.0));
}
