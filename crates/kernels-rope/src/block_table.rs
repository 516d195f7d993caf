use std::ops::Range;

use device_mem::{Device, DeviceBuffer, View};

use crate::RopeError;

/// What a table holds where a sequence has no block.
const NO_BLOCK: u32 = u32::MAX;

/// The blocks of each sequence of a paged cache, `[sequences, max_blocks]` on its device (Kwon et al., PagedAttention). A
/// block belongs to one sequence at most; a sequence's blocks are in its tokens' order, without gaps. Every entry is proven
/// to be a block of the cache, so nothing that reads the table checks again.
#[derive(Debug)]
pub struct BlockTable {
    block_size: u32,
    blocks: u32,
    sequences: u32,
    max_blocks: u32,
    /// As on the device.
    entries: Vec<u32>,
    on_device: DeviceBuffer<u32>,
}

impl BlockTable {
    /// A table for a cache of `blocks` blocks of `block_size` tokens, of which each of `sequences` sequences may have
    /// `max_blocks`. None has any yet.
    ///
    /// # Errors
    /// [`RopeError::BlockSize`] unless it is a power of two; [`RopeError::TableSpan`] when the capacity of a sequence is no
    /// u32 or the table larger than memory; or the device's error.
    pub fn new(
        device: &Device,
        blocks: u32,
        block_size: u32,
        sequences: u32,
        max_blocks: u32,
    ) -> Result<BlockTable, RopeError> {
        if !block_size.is_power_of_two() {
            return Err(RopeError::BlockSize { block_size });
        }
        let too_large = || RopeError::TableSpan { sequences, max_blocks, block_size };
        max_blocks.checked_mul(block_size).ok_or_else(too_large)?;
        let entries = u64::from(sequences) * u64::from(max_blocks);
        let len = usize::try_from(entries).map_err(|_| too_large())?;
        let mut entries = Vec::new();
        entries.try_reserve_exact(len).map_err(|_| too_large())?;
        entries.resize(len, NO_BLOCK);
        let on_device = DeviceBuffer::from_host_vec(device, entries.clone())?;
        Ok(BlockTable { block_size, blocks, sequences, max_blocks, entries, on_device })
    }

    /// Gives a sequence its blocks, in the order of its tokens, instead of those that it had. One upload.
    ///
    /// # Errors
    /// [`RopeError::Sequence`], [`RopeError::BlockCount`] for more than `max_blocks`, [`RopeError::Block`] for one that the
    /// cache does not have, [`RopeError::BlockTaken`] for one that is given twice or to another sequence; or the device's
    /// error. The table is then as it was.
    pub fn assign(&mut self, sequence: u32, blocks: &[u32]) -> Result<(), RopeError> {
        let row = self.row(sequence)?;
        if blocks.len() > self.max_blocks as usize {
            return Err(RopeError::BlockCount { found: blocks.len(), most: self.max_blocks });
        }
        for (index, &block) in blocks.iter().enumerate() {
            if block >= self.blocks {
                return Err(RopeError::Block { block, index, blocks: self.blocks });
            }
            let others = self.entries[..row.start].iter().chain(&self.entries[row.end..]);
            if others.chain(&blocks[..index]).any(|&other| other == block) {
                return Err(RopeError::BlockTaken { block, index });
            }
        }
        let mut entries = blocks.to_vec();
        entries.resize(self.max_blocks as usize, NO_BLOCK);
        self.on_device.view_mut(row.clone())?.copy_from_host(&entries)?;
        self.entries[row].copy_from_slice(&entries);
        Ok(())
    }

    /// The blocks of a sequence.
    ///
    /// # Errors
    /// [`RopeError::Sequence`].
    pub fn blocks_of(&self, sequence: u32) -> Result<&[u32], RopeError> {
        let entries = &self.entries[self.row(sequence)?];
        Ok(entries.split(|&block| block == NO_BLOCK).next().unwrap_or_default())
    }

    /// Tokens of a block; a power of two.
    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Blocks of the cache.
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Sequences.
    pub fn sequences(&self) -> u32 {
        self.sequences
    }

    /// Blocks that a sequence may have.
    pub fn max_blocks(&self) -> u32 {
        self.max_blocks
    }

    /// Tokens that a sequence may have.
    pub fn capacity(&self) -> u32 {
        // `new` proved that the product fits.
        self.max_blocks.saturating_mul(self.block_size)
    }

    /// Tokens that a sequence has blocks for; 0 for one that is not there.
    pub fn room(&self, sequence: u32) -> u32 {
        let blocks = self.blocks_of(sequence).map_or(0, <[u32]>::len);
        u32::try_from(blocks).unwrap_or(u32::MAX).saturating_mul(self.block_size)
    }

    /// Where the table lives.
    pub fn device(&self) -> Device {
        self.on_device.device()
    }

    /// The entries `[sequences, max_blocks]` on the table's device, `u32::MAX` where there is no block.
    pub fn as_view(&self) -> View<'_, u32> {
        self.on_device.as_view()
    }

    /// Block and place in it of a token that the sequence has a block for.
    pub fn place(&self, sequence: u32, token: u32) -> (u32, u32) {
        let entry = u64::from(sequence) * u64::from(self.max_blocks) + u64::from(token / self.block_size);
        let block = usize::try_from(entry).ok().and_then(|entry| self.entries.get(entry));
        (block.copied().unwrap_or(NO_BLOCK), token % self.block_size)
    }

    /// The entries of a sequence.
    fn row(&self, sequence: u32) -> Result<Range<usize>, RopeError> {
        if sequence >= self.sequences {
            return Err(RopeError::Sequence { sequence, sequences: self.sequences });
        }
        let len = self.max_blocks as usize;
        let start = sequence as usize * len;
        Ok(start..start + len)
    }
}
