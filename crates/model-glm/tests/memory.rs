//! What a model takes is counted before it is loaded, and what does not fit is refused.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::num::NonZeroU32;

use attention::KvDType;
use device_mem::{DType, Device, SharedMemory};
use model_glm::{CacheSize, GlmConfig, GlmError, GlmModel, GlmWeights, LoadOptions, MemoryBudget};
use parity::golden_dir;

/// What a card gives out memory in, and the most of these that a small model may take beside what it counts.
const PAGE: u64 = 2 << 20;
const PAGES: u64 = 16;

const CACHE: CacheSize = CacheSize { capacity: 600, dtype: KvDType::F16 };

fn files(checkpoint: &str) -> (GlmConfig, GlmWeights) {
    let folder = golden_dir().join(checkpoint);
    (GlmConfig::open(&folder).unwrap(), GlmWeights::open(&folder).unwrap())
}

fn options(dtype: Option<DType>, caches: &[CacheSize]) -> LoadOptions<'_> {
    LoadOptions { dtype, context: Some(700), chunk: NonZeroU32::new(40), caches, ..LoadOptions::default() }
}

// One test, since all tests of a process share the emulated card's memory.
#[test]
fn a_device_loses_what_was_counted_and_what_does_not_fit_is_refused_before_anything_is_moved() {
    for (name, device) in parity::named_devices().unwrap() {
        let is_emulated = name == "host" || name.starts_with("emu");
        let expect = |lost: u64, counted: u64, what: &str| {
            if is_emulated {
                assert_eq!(lost, counted, "{what}");
            } else {
                assert!(lost <= counted + PAGES * PAGE, "{what}: {lost} bytes where {counted} were counted");
            }
        };
        // Images of kernels stay on the card.
        let (config, weights) = files("glm4");
        let model = GlmModel::load(config, &weights, &device, options(None, &[])).unwrap();
        drop(model.new_cache(1, CACHE.dtype).unwrap());
        drop(model);
        for (checkpoint, dtype) in
            [("glm4", None), ("glm", Some(DType::BF16)), ("chatglm_orig", Some(DType::F16))]
        {
            let (config, weights) = files(checkpoint);
            let budget = MemoryBudget::of(&config, &weights, &device, &options(dtype, &[CACHE])).unwrap();
            let before = device.free_memory().unwrap().unwrap();
            let model = GlmModel::load(config, &weights, &device, options(dtype, &[CACHE])).unwrap();
            let loaded = device.free_memory().unwrap().unwrap();
            let cache = model.new_cache(CACHE.capacity, CACHE.dtype).unwrap();
            let after = device.free_memory().unwrap().unwrap();
            expect(before - loaded, budget.total() - budget.caches, &format!("{checkpoint} on {device}"));
            expect(loaded - after, budget.caches, &format!("cache of {checkpoint} on {device}"));
            drop((model, cache));
        }
        refuse(&device);
    }
}

fn refuse(device: &Device) {
    let (config, weights) = files("glm4");
    let caches = [CACHE, CacheSize { capacity: 1 << 28, dtype: KvDType::F32 }];
    let budget = MemoryBudget::of(&config, &weights, device, &options(None, &caches)).unwrap();
    let (before, left) = (device.transfers(), device.free_memory().unwrap().unwrap());
    let error = GlmModel::load(config, &weights, device, options(None, &caches)).unwrap_err();
    assert_eq!(device.transfers(), before);
    let said = error.to_string();
    let GlmError::DeviceMemory { needed, free, .. } = error else { panic!("{said}") };
    assert_eq!((needed, free), (budget, left));
    for number in [left, budget.total(), budget.weights, budget.caches] {
        assert!(said.contains(&number.to_string()), "{said}");
    }
}

#[test]
fn a_cpu_refuses_nothing() {
    let (config, weights) = files("glm4");
    let budget = MemoryBudget::of(&config, &weights, &Device::Cpu, &options(None, &[CACHE])).unwrap();
    assert_eq!(budget.weights, weights.bytes() as u64, "all tensors are used once, as they are stored");
    // K and V of both layers, two heads each, 32 wide, without rows beyond them.
    assert_eq!(
        budget.caches,
        2 * config.layers as u64 * 600 * u64::from(config.kv_heads * config.head_dim) * 2
    );
    let huge = MemoryBudget::of(
        &config,
        &weights,
        &Device::Cpu,
        &options(None, &[CacheSize { capacity: u32::MAX, ..CACHE }]),
    );
    huge.unwrap().expect_room(&Device::Cpu).unwrap();
}

#[test]
fn memory_shared_with_the_cpu_is_told_apart() {
    let root = tempfile::tempdir().unwrap();
    let card = root.path().join("sys/bus/pci/devices/0000:05:00.0");
    std::fs::create_dir_all(&card).unwrap();
    std::fs::create_dir_all(root.path().join("proc")).unwrap();
    for (name, mib) in [("vram_total", 512_u64), ("vram_used", 500), ("gtt_total", 8000), ("gtt_used", 0)] {
        std::fs::write(card.join(format!("mem_info_{name}")), (mib << 20).to_string()).unwrap();
    }
    std::fs::write(root.path().join("proc/meminfo"), "MemAvailable: 20480000 kB\n").unwrap();
    let shared = SharedMemory::read(root.path(), (5, 0));
    let free = shared.unwrap().room();
    let needed = MemoryBudget::default();
    let error = GlmError::DeviceMemory { device: String::from("hip:0"), needed, free, shared };
    let said = error.to_string();
    for part in ["VRAM 12 of 512 MiB", "GTT 8000 of 8000 MiB", "RAM 20000 MiB", "ttm.pages_limit"] {
        assert!(said.contains(part), "{said}");
    }
}
