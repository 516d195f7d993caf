//! Rotates the queries of three tokens on the CPU and prints them: `cargo run -p kernels-rope --example rotate`.

use device_mem::{Device, DeviceBuffer};
use kernels_rope::{
    Axes, HeadsMut, InvFreq, Pairing, Positions, RopeConfig, RopeSpec, RopeTable, Scaling, apply_rope,
};

#[expect(clippy::print_stdout, reason = "printing is what this example is for")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let spec = RopeSpec::new(RopeConfig {
        head_dim: 6,
        rotary_dim: 4,
        theta: 10_000.0,
        pairing: Pairing::Interleaved,
        scaling: Scaling::None,
        axes: Axes::Single,
        inv_freq: InvFreq::Exact,
    })?;
    let table = RopeTable::new(&spec, 131_072, &Device::Cpu)?;
    let positions = [0, 1, 131_071];
    let at = Positions::new(&table, &positions)?;

    let head = [1.0_f32, 0.0, 1.0, 0.0, 5.0, 6.0];
    let mut queries = DeviceBuffer::from_host_vec(&Device::Cpu, head.repeat(positions.len()))?;
    let ran_on = apply_rope(&table, HeadsMut::new(queries.as_view_mut()?, 3, 1, 6)?, &at)?;

    println!("every head before: {head:?}");
    for (position, rotated) in positions.iter().zip(queries.to_host_vec()?.chunks_exact(head.len())) {
        println!("position {position:>6}, on the {ran_on}: {rotated:?}");
    }
    Ok(())
}
