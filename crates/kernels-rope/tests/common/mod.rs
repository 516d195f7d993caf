//! What the test files share: specs, calls and the derived bounds.
#![allow(dead_code, reason = "each test file uses its part")]

use device_mem::{Device, DeviceBuffer, Float, RanOn};
use kernels_rope::{
    Axes, HeadsMut, InvFreq, Layout, Pairing, Positions, RopeConfig, RopeSpec, RopeTable, Scaling,
    apply_position_embeddings, apply_rope,
};

/// Unit roundoff of f32.
pub(crate) const U: f64 = 1.0 / (1 << 24) as f64;

pub(crate) const PAIRINGS: [Pairing; 2] = [Pairing::Interleaved, Pairing::Halves];

/// GLM-4's rotary embedding: half of each head of 128, theta 10000.
pub(crate) fn glm4() -> RopeConfig {
    RopeConfig {
        head_dim: 128,
        rotary_dim: 64,
        theta: 10_000.0,
        pairing: Pairing::Interleaved,
        scaling: Scaling::None,
        axes: Axes::Single,
        inv_freq: InvFreq::Exact,
    }
}

pub(crate) fn spec(config: RopeConfig) -> RopeSpec {
    RopeSpec::new(config).unwrap()
}

pub(crate) fn table(config: RopeConfig, length: u32, device: &Device) -> RopeTable {
    RopeTable::new(&spec(config), length, device).unwrap()
}

/// `data` after [`apply_rope`] on the table's device, and where it ran.
pub(crate) fn rotated<T: Float>(
    table: &RopeTable,
    at: &Positions,
    data: &[T],
    layout: Layout,
) -> (Vec<T>, RanOn) {
    let mut buffer = DeviceBuffer::from_host_vec(table.device(), data.to_vec()).unwrap();
    let heads = HeadsMut::strided(buffer.as_view_mut().unwrap(), layout).unwrap();
    let ran_on = apply_rope(table, heads, at).unwrap();
    (buffer.to_host_vec().unwrap(), ran_on)
}

/// `q` and `k` after [`apply_position_embeddings`] on the table's device, and where it ran.
pub(crate) fn rotated_pair<T: Float>(
    table: &RopeTable,
    at: &Positions,
    (q, q_layout): (&[T], Layout),
    (k, k_layout): (&[T], Layout),
) -> (Vec<T>, Vec<T>, RanOn) {
    let mut q_buffer = DeviceBuffer::from_host_vec(table.device(), q.to_vec()).unwrap();
    let mut k_buffer = DeviceBuffer::from_host_vec(table.device(), k.to_vec()).unwrap();
    let q_heads = HeadsMut::strided(q_buffer.as_view_mut().unwrap(), q_layout).unwrap();
    let k_heads = HeadsMut::strided(k_buffer.as_view_mut().unwrap(), k_layout).unwrap();
    let ran_on = apply_position_embeddings(table, q_heads, k_heads, at).unwrap();
    (q_buffer.to_host_vec().unwrap(), k_buffer.to_host_vec().unwrap(), ran_on)
}

/// `[heads, tokens, head_dim]`, as transformers lays queries out.
pub(crate) fn head_major(tokens: u32, heads: u32, head_dim: u32) -> Layout {
    let token_stride = u64::from(head_dim);
    Layout { tokens, heads, head_dim, token_stride, head_stride: u64::from(tokens) * token_stride }
}

/// The elements of pair `pair`, straight from the definition of the layouts.
pub(crate) fn pair_elements(config: &RopeConfig, pair: usize) -> (usize, usize) {
    let pairs = config.rotary_dim as usize / 2;
    match (config.pairing, &config.axes) {
        (Pairing::Interleaved, _) => (2 * pair, 2 * pair + 1),
        (Pairing::Halves, Axes::TwoBlocks) => {
            let (block, within) = (pair / (pairs / 2), pair % (pairs / 2));
            (block * pairs + within, block * pairs + within + pairs / 2)
        }
        (Pairing::Halves, _) => (pair, pair + pairs),
    }
}

/// One head rotated in f64 by `cos_sin` `[pairs]`, and for each element the bound `3u(|x0 c| + |x1 s|)`.
pub(crate) fn exact_rotation(
    config: &RopeConfig,
    head: &[f64],
    cos_sin: &[(f64, f64)],
) -> (Vec<f64>, Vec<f64>) {
    let (mut exact, mut bounds) = (head.to_vec(), vec![0.0; head.len()]);
    for (pair, (cos, sin)) in cos_sin.iter().enumerate() {
        let (a, b) = pair_elements(config, pair);
        let (x, y) = (head[a], head[b]);
        (exact[a], exact[b]) = (x * cos - y * sin, y * cos + x * sin);
        bounds[a] = 3.0 * U * ((x * cos).abs() + (y * sin).abs());
        bounds[b] = 3.0 * U * ((y * cos).abs() + (x * sin).abs());
    }
    (exact, bounds)
}
