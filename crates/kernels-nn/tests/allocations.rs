//! What a product of many tokens allocates on the CPU: no place for the tokens, once one like it has found room.

use std::alloc::System;

use device_mem::{Device, DeviceBuffer};
use half::bf16;
use kernels_nn::{BlockType, Linear, Weight, linear};
use parity::uniform;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const TOKENS: usize = 512;
const IN_FEATURES: usize = 1024;
/// So few that a task's own memory is little.
const OUT_FEATURES: usize = 16;

// One test, since the counters are the process's.
#[test]
fn further_products_of_many_tokens_keep_the_place_of_the_last() {
    let values = uniform::<f32>(1, OUT_FEATURES * IN_FEATURES);
    let mut blocks = vec![0; values.len() / 32 * BlockType::Q8_0.block_bytes()];
    BlockType::Q8_0.quantize(&values, &mut blocks).unwrap();
    let narrow = values.iter().map(|&value| bf16::from_f32(value)).collect();
    let upload = |bytes| DeviceBuffer::from_host_vec(&Device::Cpu, bytes).unwrap();
    let weights = [
        Weight::BF16(DeviceBuffer::from_host_vec(&Device::Cpu, narrow).unwrap()),
        Weight::Blocks(BlockType::Q8_0, upload(blocks)),
    ];
    let x = DeviceBuffer::from_host_vec(&Device::Cpu, uniform::<f32>(2, TOKENS * IN_FEATURES)).unwrap();
    let mut out = DeviceBuffer::<f32>::zeroed(&Device::Cpu, TOKENS * OUT_FEATURES).unwrap();
    for weight in weights {
        let layer = Linear::new(weight, None, OUT_FEATURES, IN_FEATURES).unwrap();
        let mut allocated = || {
            let before = ALLOCATOR.stats().bytes_allocated;
            linear(x.as_view(), &layer, out.as_view_mut().unwrap()).unwrap();
            ALLOCATOR.stats().bytes_allocated - before
        };
        let (first, second) = (allocated(), allocated());
        // A byte for each element at least.
        assert!(first >= TOKENS * IN_FEATURES, "{first} bytes");
        assert!(second < TOKENS * IN_FEATURES / 2, "{second} bytes of {first} again");
    }
}
