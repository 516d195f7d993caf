//! A HIP device is refused by every operation, by name; nothing is computed elsewhere in silence.

use device_mem::{Device, DeviceBuffer};
use kernels_nn::{Embedding, Linear, NnError, RmsNorm, Weight, add, embed, linear, rms_norm, swiglu};

#[test]
fn every_operation_refuses_a_hip_device_by_name() {
    let hip = Device::from_api(parity::host_hip(), 0).unwrap();
    let ones = |len: usize| DeviceBuffer::from_host_vec(&hip, vec![1.0_f32; len]).unwrap();
    let embedding = Embedding::new(Weight::F32(ones(8)), 4, 2).unwrap();
    let layer = Linear::new(Weight::F32(ones(6)), None, 3, 2).unwrap();
    let norm = RmsNorm::new(ones(2), 1e-5).unwrap();
    let ids = DeviceBuffer::from_host_vec(&hip, vec![1_u32]).unwrap();
    let (x, wide) = (ones(2), ones(4));
    let before = hip.transfers();
    let mut out = [ones(2), ones(3), ones(2), ones(2), ones(2)];
    let [embedded, projected, normed, activated, added] = &mut out;
    let refusals = [
        ("embed", embed(&embedding, ids.as_view(), embedded.as_view_mut().unwrap())),
        ("linear", linear(x.as_view(), &layer, projected.as_view_mut().unwrap())),
        ("rms_norm", rms_norm(x.as_view(), &norm, normed.as_view_mut().unwrap())),
        ("swiglu", swiglu(wide.as_view(), 2, activated.as_view_mut().unwrap())),
        ("add", add(added.as_view_mut().unwrap(), x.as_view())),
    ];
    for (operation, refusal) in refusals {
        let error = refusal.unwrap_err();
        assert!(
            matches!(error, NnError::NoHipBody { operation: found } if found == operation),
            "{operation}: {error}"
        );
    }
    let after = hip.transfers();
    assert_eq!((after.downloads, after.launches), (before.downloads, before.launches));
}
