//! Every refusal names the thing, what was found and the remedy, and comes before anything is launched.

use attention::{AttentionError, AttentionShape, KvCache, KvDType, MAX_HIP_HEAD_DIM, Qkv, attend};
use device_mem::{Device, MemError, View, ViewMut};

use crate::common::{Pass, cache, devices, gpus, on, shape};

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
    let mut cache = cache(&Device::Cpu, shape(1, 1, 4), 4, KvDType::F32);
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
    for device in devices() {
        let (k, v) = (on(&device, &k), on(&device, &v));
        let mut cache = cache(&device, shape, 10, KvDType::F16);
        let mut layer = cache.layer(0).unwrap();
        let before = device.transfers();
        let error = layer.append(k.as_view(), v.view(1..48).unwrap(), 3).unwrap_err();
        assert!(matches!(error, AttentionError::OperandLength { operand: "v", found: 47, .. }), "{error}");
        let error = layer.append(k.view(0..47).unwrap(), v.as_view(), 3).unwrap_err();
        assert!(matches!(error, AttentionError::OperandLength { operand: "k", found: 47, .. }), "{error}");
        let error = layer.append(k.as_view(), v.as_view(), 11).unwrap_err();
        assert!(matches!(error, AttentionError::Capacity { len: 0, tokens: 11, capacity: 10 }), "{error}");
        assert_eq!(device.transfers(), before);
    }
}

#[test]
fn attending_needs_what_was_appended() {
    let pass = Pass::new(1, shape(4, 2, 8), 3, 1.0);
    for device in devices() {
        let (q, k, v) = (on(&device, &pass.q), on(&device, &pass.k), on(&device, &pass.v));
        let mut out = on(&device, &vec![7.0; pass.q.len()]);
        let mut cache = cache(&device, pass.shape, 10, KvDType::F16);
        let mut layer = cache.layer(0).unwrap();
        let error = attend(q.as_view(), 3, &mut layer, out.as_view_mut().unwrap()).unwrap_err();
        assert!(matches!(error, AttentionError::Uncommitted { layer: 0, expected: 3, found: 0 }), "{error}");
        layer.append(k.as_view(), v.as_view(), 3).unwrap();
        let before = device.transfers();
        let short = 1..pass.q.len();
        let error = attend(q.view(short.clone()).unwrap(), 3, &mut layer, out.as_view_mut().unwrap());
        assert!(matches!(error, Err(AttentionError::OperandLength { operand: "q", .. })), "{error:?}");
        let error = attend(q.as_view(), 3, &mut layer, out.view_mut(short).unwrap());
        assert!(matches!(error, Err(AttentionError::OperandLength { operand: "out", .. })), "{error:?}");
        assert_eq!(device.transfers(), before);
        assert!(out.to_host_vec().unwrap().iter().all(|&value| value == 7.0));
    }
}

#[test]
fn heads_too_wide_for_the_kernels_are_refused_with_the_cache() {
    let wide = shape(2, 1, MAX_HIP_HEAD_DIM + 1);
    KvCache::new(&Device::Cpu, 1, wide, 4, KvDType::F32).unwrap();
    for device in gpus() {
        let before = device.transfers();
        let error = KvCache::new(&device, 1, wide, 4, KvDType::F32).unwrap_err();
        assert!(matches!(error, AttentionError::HeadDim { found: 257, most: 256 }), "{error}");
        assert!(error.to_string().contains("use the CPU"), "{error}");
        assert_eq!(device.transfers(), before);
    }
}

#[test]
fn operands_of_two_devices_are_refused_and_left_alone() {
    let devices = devices();
    let pass = Pass::new(1, shape(4, 2, 8), 3, 1.0);
    // Each with the next one, the last with the first.
    for (here, there) in devices.iter().zip(devices.iter().cycle().skip(1)) {
        let mut cache = cache(here, pass.shape, 10, KvDType::F16);
        let mut layer = cache.layer(0).unwrap();
        let (k, v) = (on(here, &pass.k), on(there, &pass.v));
        let before = [here.transfers(), there.transfers()];
        let error = layer.append(k.as_view(), v.as_view(), 3).unwrap_err();
        assert!(matches!(error, AttentionError::Mem(MemError::ForeignDevice { .. })), "{error}");
        assert_eq!([here.transfers(), there.transfers()], before);

        let v = on(here, &pass.v);
        layer.append(k.as_view(), v.as_view(), 3).unwrap();
        let (q, mut out) = (on(here, &pass.q), on(there, &vec![7.0; pass.q.len()]));
        let before = [here.transfers(), there.transfers()];
        let error = attend(q.as_view(), 3, &mut layer, out.as_view_mut().unwrap()).unwrap_err();
        assert!(matches!(error, AttentionError::Mem(MemError::ForeignDevice { .. })), "{error}");
        assert_eq!([here.transfers(), there.transfers()], before);
        assert!(out.to_host_vec().unwrap().iter().all(|&value| value == 7.0));
    }
}
