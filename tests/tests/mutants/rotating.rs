//! Cases of the rotary embedding and of appending.

use anyhow::Result;
use device_mem::{Device, DeviceBuffer, Float};
use half::{bf16, f16};
use kernels_rope::kernels::{APPEND_KV, POSITION_EMBEDDINGS, ROPE};
use kernels_rope::{
    AppendAt, AppendKv, Axes, BlockTable, HeadsMut, InvFreq, KvBlocks, KvLayout, Layout, Pairing, Positions,
    RopeConfig, RopeSpec, RopeTable, Scaling, append_kv, apply_position_embeddings,
    apply_position_embeddings_append, apply_rope,
};
use parity::uniform_with_special;

use crate::cases::{Case, on};

pub(crate) fn cases() -> Vec<Case> {
    let case = |kernel: &'static str, images, run| {
        let fewest = kernel.starts_with("rope").then_some([1; 3]);
        Case { kernel, images, run, bounds: None, fewest }
    };
    vec![
        case("rope_f32", &ROPE, rope::<f32>),
        case("rope_f16", &ROPE, rope::<f16>),
        case("rope_bf16", &ROPE, rope::<bf16>),
        case("position_embeddings_f32", &POSITION_EMBEDDINGS, position_embeddings::<f32, f32>),
        case("position_embeddings_bf16", &POSITION_EMBEDDINGS, position_embeddings::<bf16, bf16>),
        case("position_embeddings_f32_f16", &POSITION_EMBEDDINGS, position_embeddings::<f32, f16>),
        case("position_embeddings_f32_bf16", &POSITION_EMBEDDINGS, position_embeddings::<f32, bf16>),
        case("append_kv_f32", &APPEND_KV, append::<f32>),
        case("append_kv_bf16", &APPEND_KV, append::<bf16>),
    ]
}

pub(crate) fn table(
    device: &Device,
    (head_dim, rotary_dim): (u32, u32),
    pairing: Pairing,
    axes: Axes,
) -> Result<RopeTable> {
    let spec = RopeSpec::new(RopeConfig {
        head_dim,
        rotary_dim,
        theta: 10_000.0,
        pairing,
        scaling: Scaling::None,
        axes,
        inv_freq: InvFreq::Exact,
    })?;
    Ok(RopeTable::new(&spec, 64, device)?)
}

fn wide<T: Float>(buffer: &DeviceBuffer<T>) -> Result<Vec<f32>> {
    Ok(buffer.to_host_vec()?.iter().map(|value| value.to_f32()).collect())
}

/// Less and more pairs than a block has threads, both pairings, several axes, gaps between rows.
fn rope<T: Float>(device: &Device) -> Result<Vec<f32>> {
    let mut all = Vec::new();
    let two_axes = || Axes::Sections(vec![3, 2, 4]);
    for (tokens, heads, dims, pairing, axes) in [
        (3, 2, (12, 6), Pairing::Interleaved, Axes::Single),
        (2, 5, (130, 128), Pairing::Halves, Axes::Single),
        (2, 3, (20, 18), Pairing::Halves, two_axes()),
        (1, 1, (600, 600), Pairing::Interleaved, Axes::Single),
    ] {
        let table = table(device, dims, pairing, axes)?;
        let positions: Vec<u32> = (0..tokens).map(|token| (token * 29 + 7) % 64).collect();
        let others: Vec<u32> = positions.iter().map(|position| 63 - position).collect();
        let at = match table.spec().axes() {
            Axes::Single => Positions::new(&table, &positions)?,
            _ => Positions::with_axes(&table, &[&positions, &others, &positions])?,
        };
        let head_stride = u64::from(dims.0) + 3;
        let token_stride = u64::from(heads) * head_stride + 5;
        let layout = Layout { tokens, heads, head_dim: dims.0, token_stride, head_stride };
        let len = usize::try_from(u64::from(tokens) * token_stride)?;
        let mut x = on(device, &uniform_with_special::<T>(u64::from(dims.0), len))?;
        apply_rope(&table, HeadsMut::strided(x.as_view_mut()?, layout)?, &at)?;
        all.extend(wide(&x)?);
    }
    Ok(all)
}

/// With and without a cache; contiguous, and paged with lengths that the launch reads.
fn position_embeddings<T: Float, C: Float>(device: &Device) -> Result<Vec<f32>> {
    let mut all = Vec::new();
    for (tokens, (q_heads, kv_heads), dims, pairing) in [
        (3, (4, 2), (12, 6), Pairing::Interleaved),
        (2, (5, 3), (130, 128), Pairing::Halves),
        (2, (1, 2), (16, 16), Pairing::Halves),
        (2, (1, 3), (144, 16), Pairing::Interleaved),
    ] {
        let table = table(device, dims, pairing, Axes::Single)?;
        let positions: Vec<u32> = (0..tokens).map(|token| (token * 31 + 5) % 64).collect();
        let at = Positions::new(&table, &positions)?;
        let data =
            |seed: u64, heads: u32| uniform_with_special::<T>(seed, (tokens * heads * dims.0) as usize);
        let (q_data, k_data, v_data) = (data(1, q_heads), data(2, kv_heads), data(3, kv_heads));
        let v = on(device, &v_data)?;
        for way in 0..3_u32 {
            let (mut q, mut k) = (on(device, &q_data)?, on(device, &k_data)?);
            let q_rows = HeadsMut::new(q.as_view_mut()?, tokens, q_heads, dims.0)?;
            let k_rows = HeadsMut::new(k.as_view_mut()?, tokens, kv_heads, dims.0)?;
            if way == 0 {
                // Of one type, so that the kernel is the one for it; else it is that with a cache.
                apply_position_embeddings(&table, q_rows, k_rows, &at)?;
                all.extend([wide(&q)?, wide(&k)?].concat());
                continue;
            }
            let cache = Cache::<C>::new(device, way == 2, tokens, kv_heads, dims.0)?;
            let (keys, values) = cache.appended(
                |append| {
                    apply_position_embeddings_append(&table, q_rows, k_rows, append, &at)?;
                    Ok(())
                },
                v.as_view(),
            )?;
            all.extend([wide(&q)?, wide(&k)?, keys, values].concat());
        }
    }
    Ok(all)
}

/// A layer of a cache to append to.
struct Cache<C: Float> {
    layout: KvLayout,
    keys: DeviceBuffer<C>,
    values: DeviceBuffer<C>,
    blocks: Option<BlockTable>,
    lengths: DeviceBuffer<u32>,
    tokens: u32,
}

impl<C: Float> Cache<C> {
    /// Paged, with a sequence for each token, or contiguous, with all tokens behind one other.
    fn new(device: &Device, paged: bool, tokens: u32, kv_heads: u32, head_dim: u32) -> Result<Cache<C>> {
        let capacity = if paged { 4 } else { tokens + 2 };
        let layout = KvLayout { kv_heads, capacity, head_dim, row_len: head_dim.next_multiple_of(8) };
        let blocks = paged.then(|| block_table(device, tokens)).transpose()?;
        let count = blocks.as_ref().map_or(1, BlockTable::blocks) as usize;
        let empty = vec![C::from_f32(-77.0); count * layout.len().unwrap_or(0)];
        Ok(Cache {
            layout,
            keys: on(device, &empty)?,
            values: on(device, &empty)?,
            blocks,
            lengths: on(device, &(0..tokens).map(|token| (token * 3 + 2) % 8).collect::<Vec<u32>>())?,
            tokens,
        })
    }

    /// Keys and values after `append`.
    fn appended<T: Float>(
        mut self,
        append: impl FnOnce(AppendKv<'_, T, C>) -> Result<()>,
        v: device_mem::View<'_, T>,
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        let (blocks, at) = match &self.blocks {
            Some(table) => (KvBlocks::Table(table), AppendAt::Next(self.lengths.as_view())),
            None => (KvBlocks::PerSequence(1), AppendAt::Sequence { sequence: 0, first: 1 }),
        };
        debug_assert!(self.tokens > 0);
        let (keys, values) = (self.keys.as_view_mut()?, self.values.as_view_mut()?);
        append(AppendKv::to_blocks(v, keys, values, self.layout, blocks, at)?)?;
        Ok((wide(&self.keys)?, wide(&self.values)?))
    }
}

/// Two blocks of four tokens for each sequence, in no order.
fn block_table(device: &Device, sequences: u32) -> Result<BlockTable> {
    let mut table = BlockTable::new(device, 2 * sequences + 1, 4, sequences, 3)?;
    for sequence in 0..sequences {
        table.assign(sequence, &[2 * sequences - sequence, sequence])?;
    }
    Ok(table)
}

fn append<C: Float>(device: &Device) -> Result<Vec<f32>> {
    let mut all = Vec::new();
    for (tokens, kv_heads, head_dim) in [(3, 2, 12), (2, 3, 130), (1, 1, 1)] {
        let data = |seed: u64| uniform_with_special::<f32>(seed, (tokens * kv_heads * head_dim) as usize);
        let (k, v) = (on(device, &data(1))?, on(device, &data(2))?);
        for paged in [false, true] {
            let cache = Cache::<C>::new(device, paged, tokens, kv_heads, head_dim)?;
            let (keys, values) = cache.appended(
                |append| {
                    append_kv(k.as_view(), tokens, append)?;
                    Ok(())
                },
                v.as_view(),
            )?;
            all.extend([keys, values].concat());
        }
    }
    Ok(all)
}
