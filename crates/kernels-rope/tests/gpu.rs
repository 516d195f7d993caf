//! The GPU path: random shapes against the CPU's bits on every device that `PARITY_DEVICES` lists, and what a pass costs.
//! Every test asserts that kernels were launched; nothing here passes on the CPU body. Named cases of every type, layout,
//! scaling and position are in `tests/suite`.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

use std::ffi::CString;
use std::path::Path;

use device_mem::{Device, DeviceBuffer, MemError, RanOn, Transfers};
use kernels_rope::kernels::{APPEND_KV, POSITION_EMBEDDINGS, ROPE};
use kernels_rope::{
    Axes, HeadsMut, InvFreq, Layout, Pairing, Positions, RopeConfig, RopeError, RopeSpec, RopeTable, Scaling,
    apply_position_embeddings, apply_rope,
};
use parity::{Gpu, host_hip, host_hip_has, uniform_with_special};
use proptest::prelude::*;

/// The devices under test; none is the CPU.
fn gpus() -> Vec<Gpu> {
    parity::devices().unwrap()
}

/// A device for what does not depend on the kernels' results.
fn gpu() -> Device {
    Device::from_api(host_hip(), 0).unwrap()
}

/// Positions of the tables.
const LENGTH: u32 = 256;

fn spec(head_dim: u32, rotary_dim: u32, pairing: Pairing) -> RopeSpec {
    let (scaling, axes, inv_freq) = (Scaling::None, Axes::Single, InvFreq::Exact);
    RopeSpec::new(RopeConfig { head_dim, rotary_dim, theta: 10_000.0, pairing, scaling, axes, inv_freq })
        .unwrap()
}

/// What one launch may cost: itself.
fn one_launch(before: Transfers, after: Transfers) {
    let mut expected = before;
    expected.launches += 1;
    assert_eq!(after, expected, "a rotation is one launch: no copy, no allocation, no wait");
}

fn bits(values: &[f32]) -> Vec<u32> {
    // NaN payloads are not specified, everything else is.
    values.iter().map(|value| if value.is_nan() { u32::MAX } else { value.to_bits() }).collect()
}

fn data(seed: u64, len: usize) -> Vec<f32> {
    uniform_with_special(seed, len)
}

/// Rotates the same q and k on both devices and compares all bits, the untouched tail included.
fn both_agree(spec: &RopeSpec, heads: (u32, u32), positions: &[u32], seed: u64) {
    let (tokens, head_dim) = (u32::try_from(positions.len()).unwrap(), spec.head_dim());
    let (q_heads, kv_heads) = heads;
    let len = |heads: u32| (tokens * heads * head_dim) as usize;
    let (q, k) = (data(seed, len(q_heads)), data(!seed, len(kv_heads)));
    let rotate = |device: &Device| {
        let table = RopeTable::new(spec, LENGTH, device).unwrap();
        let at = Positions::new(&table, positions).unwrap();
        let mut q = DeviceBuffer::from_host_vec(device, q.clone()).unwrap();
        let mut k = DeviceBuffer::from_host_vec(device, k.clone()).unwrap();
        let before = device.transfers();
        let q_view = HeadsMut::new(q.as_view_mut().unwrap(), tokens, q_heads, head_dim).unwrap();
        let k_view = HeadsMut::new(k.as_view_mut().unwrap(), tokens, kv_heads, head_dim).unwrap();
        let ran_on = apply_position_embeddings(&table, q_view, k_view, &at).unwrap();
        let after = device.transfers();
        if let Device::Hip(_) = device {
            assert_eq!(ran_on, RanOn::Hip);
            one_launch(before, after);
        } else {
            assert_eq!(ran_on, RanOn::Cpu);
        }
        (q.to_host_vec().unwrap(), k.to_host_vec().unwrap())
    };
    let (cpu_q, cpu_k) = rotate(&Device::Cpu);
    for device in gpus() {
        let (gpu_q, gpu_k) = rotate(&device);
        assert_eq!(bits(&cpu_q), bits(&gpu_q), "q on {device}");
        assert_eq!(bits(&cpu_k), bits(&gpu_k), "k on {device}");
    }
}

#[test]
fn rope_01_device_tensors_are_rotated_on_the_device() {
    let device = gpu();
    let table = RopeTable::new(&spec(8, 8, Pairing::Interleaved), 64, &device).unwrap();
    let at = Positions::span(&table, 5, 3).unwrap();
    let before = data(1, 3 * 2 * 8);
    let mut x = DeviceBuffer::from_host_vec(&device, before.clone()).unwrap();
    let launches = device.transfers().launches;
    let ran_on = apply_rope(&table, HeadsMut::new(x.as_view_mut().unwrap(), 3, 2, 8).unwrap(), &at).unwrap();
    assert_eq!((ran_on, device.transfers().launches), (RanOn::Hip, launches + 1));
    assert_ne!(bits(&x.to_host_vec().unwrap()), bits(&before));
}

#[test]
fn rope_01_the_flow_is_documented() {
    let source = include_str!("../src/hip.rs");
    assert!(source.contains("/// # GPU RoPE execution flow"));
    for name in [
        "apply_position_embeddings_device",
        "position_embeddings_gpu_kernel",
        "apply_rope_device",
        "rope_gpu_kernel",
    ] {
        assert!(source.contains(&format!("fn {name}")), "{name}");
    }
}

#[test]
fn rope_04_every_declared_kernel_has_a_host_twin() {
    for set in [&ROPE, &POSITION_EMBEDDINGS, &APPEND_KV] {
        for symbol in set.decl.symbols {
            assert!(host_hip_has(&CString::new(*symbol).unwrap()), "{symbol} is not in host_kernels.cpp");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn rope_05_random_shapes_are_equal_bit_for_bit(
        half_dim in 1..96_u32,
        part in 1..=96_u32,
        odd: bool,
        halves: bool,
        q_heads in 0..9_u32,
        kv_heads in 0..5_u32,
        positions in prop::collection::vec(0..LENGTH, 0..9),
        seed: u64,
    ) {
        let pairing = if halves { Pairing::Halves } else { Pairing::Interleaved };
        let spec = spec(2 * half_dim + u32::from(odd), 2 * part.min(half_dim), pairing);
        both_agree_or_nothing(&spec, (q_heads, kv_heads), &positions, seed);
    }

    #[test]
    fn rope_05_strided_views_are_equal_bit_for_bit_and_leave_the_gaps(
        tokens in 1..6_u32, heads in 1..5_u32, gap in 0..9_u64, head_major: bool, seed: u64,
    ) {
        let (head_dim, spec) = (16_u32, spec(16, 8, Pairing::Interleaved));
        let inner = u64::from(head_dim) + gap;
        let (token_stride, head_stride) = match head_major {
            true => (inner, inner * u64::from(tokens) + gap),
            false => (inner * u64::from(heads) + gap, inner),
        };
        let layout = Layout { tokens, heads, head_dim, token_stride, head_stride };
        let len = usize::try_from(u64::from(tokens) * token_stride + u64::from(heads) * head_stride).unwrap();
        let before = data(seed, len);
        let rotate = |device: &Device| {
            let table = RopeTable::new(&spec, 64, device).unwrap();
            let at = Positions::span(&table, 3, tokens).unwrap();
            let [mut x, mut q, mut k] =
                [(); 3].map(|()| DeviceBuffer::from_host_vec(device, before.clone()).unwrap());
            let [one, first, second] = [&mut x, &mut q, &mut k]
                .map(|buffer| HeadsMut::strided(buffer.as_view_mut().unwrap(), layout).unwrap());
            let ran_on = [
                apply_rope(&table, one, &at).unwrap(),
                apply_position_embeddings(&table, first, second, &at).unwrap(),
            ];
            (ran_on, [x, q, k].map(|buffer| bits(&buffer.to_host_vec().unwrap())))
        };
        let (ran_on, cpu) = rotate(&Device::Cpu);
        prop_assert_eq!(ran_on, [RanOn::Cpu; 2]);
        for device in gpus() {
            let (ran_on, gpu) = rotate(&device);
            prop_assert_eq!(ran_on, [RanOn::Hip; 2]);
            prop_assert_eq!(&cpu, &gpu);
        }
    }
}

/// As `both_agree` where there is something to launch; else nothing may be launched.
fn both_agree_or_nothing(spec: &RopeSpec, heads: (u32, u32), positions: &[u32], seed: u64) {
    if !positions.is_empty() && heads != (0, 0) {
        return both_agree(spec, heads, positions, seed);
    }
    let device = gpu();
    let table = RopeTable::new(spec, LENGTH, &device).unwrap();
    let at = Positions::new(&table, positions).unwrap();
    let mut x = DeviceBuffer::from_host_vec(&device, Vec::<f32>::new()).unwrap();
    let tokens = u32::try_from(positions.len()).unwrap();
    let before = device.transfers();
    let heads = HeadsMut::new(x.as_view_mut().unwrap(), tokens, 0, spec.head_dim()).unwrap();
    assert_eq!(apply_rope(&table, heads, &at).unwrap(), RanOn::Hip);
    assert_eq!(device.transfers(), before);
}

#[test]
fn rope_06_nothing_crosses_the_bus_but_tables_and_positions() {
    let device = gpu();
    let start = device.transfers();
    let table = RopeTable::new(&spec(128, 64, Pairing::Interleaved), 100, &device).unwrap();
    let built = device.transfers();
    assert_eq!(built.uploads - start.uploads, 4, "cos, sin, the pairs' axes and positions, once per model");
    assert_eq!(built.uploaded_bytes - start.uploaded_bytes, (2 * 100 * 32 + 32 + 100) * 4);
    Positions::new(&table, &[7, 7, 1, 0]).unwrap();
    assert_eq!(
        device.transfers().uploads - built.uploads,
        1,
        "positions of any order, once per forward pass"
    );
    let before = device.transfers();
    let at = Positions::span(&table, 0, 4).unwrap();
    assert_eq!(device.transfers(), before, "a span is a part of the table's positions");

    let mut q = DeviceBuffer::<f32>::zeroed(&device, 4 * 32 * 128).unwrap();
    let mut k = DeviceBuffer::<f32>::zeroed(&device, 4 * 2 * 128).unwrap();
    let before = device.transfers();
    const LAYERS: u64 = 40;
    for _ in 0..LAYERS {
        let q = HeadsMut::new(q.as_view_mut().unwrap(), 4, 32, 128).unwrap();
        let k = HeadsMut::new(k.as_view_mut().unwrap(), 4, 2, 128).unwrap();
        apply_position_embeddings(&table, q, k, &at).unwrap();
    }
    let mut expected = before;
    expected.launches += LAYERS;
    assert_eq!(device.transfers(), expected);
}

/// Sources and folders that are not on the way from `self_attention` to the launch: CPU bodies, and what uploads once per model,
/// once per forward pass, or when a sequence is given blocks.
const BESIDE_THE_PATH: [&str; 6] =
    ["cpu", "cpu.rs", "cpu_decode.rs", "table.rs", "positions.rs", "block_table.rs"];

#[test]
fn rope_06_the_path_names_no_copy_and_no_wait() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (name, call) in [
        ("attention", "apply_position_embeddings_append("),
        ("kernels-rope", "apply_position_embeddings_device("),
        ("kernels-rope", "position_embeddings_gpu_kernel("),
    ] {
        let mut found = false;
        for file in std::fs::read_dir(crates.join(name).join("src")).unwrap() {
            let file = file.unwrap();
            if BESIDE_THE_PATH.iter().any(|beside| file.file_name() == *beside) {
                continue;
            }
            let source = std::fs::read_to_string(file.path()).unwrap();
            for line in source.lines().filter(|line| !line.trim_start().starts_with("//")) {
                let crosses = ["to_host_vec", "from_host_vec", "synchronize"];
                let crossing = crosses.iter().find(|name| line.contains(*name));
                assert_eq!(crossing, None, "{}: {line}", file.path().display());
                found |= line.contains(call);
            }
        }
        assert!(found, "{name} does not call {call}");
    }
}

#[test]
fn operands_of_two_devices_are_refused_and_left_alone() {
    let (first, second) = (gpu(), gpu());
    let table = RopeTable::new(&spec(8, 8, Pairing::Halves), 16, &first).unwrap();
    let at = Positions::span(&table, 0, 1).unwrap();
    for device in [second, Device::Cpu] {
        let mut x = DeviceBuffer::from_host_vec(&device, vec![1.0_f32; 8]).unwrap();
        let heads = HeadsMut::new(x.as_view_mut().unwrap(), 1, 1, 8).unwrap();
        let error = apply_rope(&table, heads, &at).unwrap_err();
        assert!(matches!(error, RopeError::Mem(MemError::ForeignDevice { .. })), "{error}");
        assert_eq!(x.to_host_vec().unwrap(), [1.0; 8]);
    }
}
