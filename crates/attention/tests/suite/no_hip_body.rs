//! A HIP device is refused before anything is touched.

use attention::{AttentionError, AttentionShape, KvCache, KvDType, Qkv, self_attention};
use device_mem::{Device, DeviceBuffer};
use kernels_rope::{Axes, InvFreq, Pairing, Positions, RopeConfig, RopeSpec, RopeTable, Scaling};

#[test]
fn self_attention_refuses_a_hip_device_and_leaves_the_operands() {
    let hip = Device::from_api(parity::host_hip(), 0).unwrap();
    let shape = AttentionShape::new(2, 1, 8).unwrap();
    let (pairing, scaling, axes, inv_freq) =
        (Pairing::Interleaved, Scaling::None, Axes::Single, InvFreq::Exact);
    let spec = RopeConfig { head_dim: 8, rotary_dim: 4, theta: 1e4, pairing, scaling, axes, inv_freq };
    let table = RopeTable::new(&RopeSpec::new(spec).unwrap(), 16, &hip).unwrap();
    let at = Positions::span(&table, 1, 1).unwrap();
    let mut cache = KvCache::new(&hip, 1, shape, 4, KvDType::BF16).unwrap();
    let row = |heads: usize| DeviceBuffer::from_host_vec(&hip, vec![1.0_f32; heads * 8]).unwrap();
    let (mut q, mut k, v, mut out) = (row(2), row(1), row(1), row(2));
    let launches = hip.transfers().launches;
    let qkv = Qkv::new(q.as_view_mut().unwrap(), k.as_view_mut().unwrap(), v.as_view(), 1, shape).unwrap();
    let error =
        self_attention(qkv, &table, &at, cache.layer(0).unwrap(), out.as_view_mut().unwrap()).unwrap_err();
    assert!(matches!(error, AttentionError::NoHipBody { operation: "attend" }), "{error}");
    assert_eq!(hip.transfers().launches, launches, "nothing was rotated before the refusal");
    assert_eq!(q.to_host_vec().unwrap(), [1.0; 16]);
}
