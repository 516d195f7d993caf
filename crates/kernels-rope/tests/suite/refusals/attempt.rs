//! One call with operands that fit, of which a refusal breaks one.

use device_mem::{Device, DeviceBuffer};
use kernels_rope::{
    AppendAt, AppendKv, BlockTable, HeadsMut, KvBlocks, KvLayout, Positions, RopeConfig, RopeError,
    apply_position_embeddings, apply_position_embeddings_append, apply_rope,
};

use super::specs::{glm4, table};
use crate::cases::{Cache, CacheKind};
use crate::operands::UNTOUCHED;

/// What can lie on another device than the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operand {
    Queries,
    Keys,
    Values,
    CachedKeys,
    CachedValues,
    Positions,
    Lengths,
    Blocks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Rotate,
    Pair,
    Append,
}

/// Everything that a call is given.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) call: Call,
    /// Config and length of the table.
    pub(super) table: (RopeConfig, u32),
    /// Config and length of the table that the positions are made with.
    pub(super) at: (RopeConfig, u32),
    pub(super) positions: Vec<u32>,
    /// `[tokens, heads, head_dim]`.
    pub(super) q: [u32; 3],
    pub(super) k: [u32; 3],
    pub(super) v_len: usize,
    pub(super) layout: KvLayout,
    pub(super) cached: [usize; 2],
    pub(super) cache: Cache,
    /// The sequence that is appended to.
    pub(super) sequence: u32,
    /// Tokens of each sequence, where one goes to each.
    pub(super) lengths: Vec<u32>,
    /// Tokens of a block of the table.
    pub(super) block_size: u32,
    pub(super) elsewhere: Option<Operand>,
}

impl Attempt {
    /// Four tokens, four heads of queries and two of keys, of 8 elements, and a cache of 9 tokens that holds 3.
    pub(super) fn new(call: Call) -> Attempt {
        let config = RopeConfig { head_dim: 8, rotary_dim: 4, ..glm4() };
        Attempt {
            call,
            table: (config.clone(), 16),
            at: (config, 16),
            positions: vec![0, 1, 2, 15],
            q: [4, 4, 8],
            k: [4, 2, 8],
            v_len: 4 * 2 * 8,
            layout: KvLayout { kv_heads: 2, capacity: 9, head_dim: 8, row_len: 8 },
            cached: [2 * 9 * 8; 2],
            cache: Cache { kind: CacheKind::One, first: 3, gap: 0 },
            sequence: 0,
            lengths: Vec::new(),
            block_size: 16,
            elsewhere: None,
        }
    }

    /// The error, where the operands are as they were and nothing was launched or moved.
    pub(super) fn refused(&self, device: &Device) -> Result<RopeError, String> {
        let other = match device {
            Device::Cpu => parity::devices().unwrap().swap_remove(0).into(),
            Device::Hip(_) => Device::Cpu,
        };
        let place = |operand| if self.elsewhere == Some(operand) { &other } else { device };
        let ones =
            |operand, len: usize| DeviceBuffer::from_host_vec(place(operand), vec![1.0_f32; len]).unwrap();
        let len = |[tokens, heads, head_dim]: [u32; 3]| tokens as usize * heads as usize * head_dim as usize;
        let cached =
            |operand, len| DeviceBuffer::from_host_vec(place(operand), vec![UNTOUCHED; len]).unwrap();
        let (mut q, mut k) = (ones(Operand::Queries, len(self.q)), ones(Operand::Keys, len(self.k)));
        let v = ones(Operand::Values, self.v_len);
        let mut keys = cached(Operand::CachedKeys, self.cached[0]);
        let mut values = cached(Operand::CachedValues, self.cached[1]);
        let lengths = DeviceBuffer::from_host_vec(place(Operand::Lengths), self.lengths.clone()).unwrap();
        let paged = matches!(self.cache.kind, CacheKind::Paged(_));
        let mut blocks = BlockTable::new(place(Operand::Blocks), 1, self.block_size, 1, 1).unwrap();
        blocks.assign(0, &[0]).unwrap();
        let on_device = table(self.table.0.clone(), self.table.1, device).unwrap();
        let of_positions = table(self.at.0.clone(), self.at.1, place(Operand::Positions)).unwrap();
        let at = Positions::new(&of_positions, &self.positions).unwrap();
        let before = device.transfers();
        let mut run = || {
            let q = HeadsMut::new(q.as_view_mut()?, self.q[0], self.q[1], self.q[2])?;
            let k = HeadsMut::new(k.as_view_mut()?, self.k[0], self.k[1], self.k[2])?;
            match self.call {
                Call::Rotate => apply_rope(&on_device, q, &at),
                Call::Pair => apply_position_embeddings(&on_device, q, k, &at),
                Call::Append => {
                    let blocks = if paged {
                        KvBlocks::Table(&blocks)
                    } else {
                        KvBlocks::PerSequence(self.sequences())
                    };
                    let to = match self.cache.kind {
                        CacheKind::Next => AppendAt::Next(lengths.as_view()),
                        _ => AppendAt::Sequence { sequence: self.sequence, first: self.cache.first },
                    };
                    let (keys, values) = (keys.as_view_mut()?, values.as_view_mut()?);
                    let append = AppendKv::to_blocks(v.as_view(), keys, values, self.layout, blocks, to)?;
                    apply_position_embeddings_append(&on_device, q, k, append, &at)
                }
            }
        };
        let error: RopeError = super::error_of(run())?;
        if device.transfers() != before {
            return Err(format!("{error}, but the device was used"));
        }
        let holds = |buffer: &DeviceBuffer<f32>, value: f32| {
            buffer.to_host_vec().is_ok_and(|values| values.iter().all(|&found| found == value))
        };
        let unchanged =
            holds(&q, 1.0) && holds(&k, 1.0) && holds(&keys, UNTOUCHED) && holds(&values, UNTOUCHED);
        if unchanged { Ok(error) } else { Err(format!("{error}, but an operand changed")) }
    }

    /// Of a cache that is not paged.
    fn sequences(&self) -> u32 {
        match self.cache.kind {
            CacheKind::Next => 4,
            CacheKind::OfThree => 3,
            _ => 1,
        }
    }
}
