use device_mem::DeviceBuffer;

use crate::{Axes, RopeError, RopeTable};

/// Positions `[axes, tokens]` of the tokens of one forward pass, proven to lie inside a table and uploaded once for
/// all layers.
#[derive(Debug)]
pub struct Positions {
    pub(crate) indices: DeviceBuffer<u32>,
    pub(crate) tokens: u32,
    axes: usize,
    highest: Option<u32>,
}

impl Positions {
    /// One position per token `[tokens]`. M-RoPE takes it for all three axes, which is what text is.
    ///
    /// # Errors
    /// [`RopeError::Position`] names the first position beyond the table; [`RopeError::AxisCount`] for
    /// [`Axes::TwoBlocks`], which needs [`with_axes`](Positions::with_axes); or the device's error.
    pub fn new(table: &RopeTable, positions: &[u32]) -> Result<Positions, RopeError> {
        match table.spec().axes() {
            Axes::Single => Positions::with_axes(table, &[positions]),
            Axes::Sections(_) => Positions::with_axes(table, &[positions; 3]),
            Axes::TwoBlocks => Err(RopeError::AxisCount { expected: table.spec().axes().count(), found: 1 }),
        }
    }

    /// The positions `first..first + count`, one per token: a prefill from `first` on, or one decoded token.
    ///
    /// # Errors
    /// [`RopeError::Span`] when they end beyond the table; otherwise as [`new`](Positions::new).
    pub fn span(table: &RopeTable, first: u32, count: u32) -> Result<Positions, RopeError> {
        let length = table.length();
        match first.checked_add(count) {
            Some(end) if end <= length => Positions::new(table, &Vec::from_iter(first..end)),
            _ => Err(RopeError::Span { first, count, length }),
        }
    }

    /// One list `[tokens]` per axis: time, height, width for M-RoPE; position, block position for ChatGLM-6B.
    ///
    /// # Errors
    /// [`RopeError::AxisCount`], [`RopeError::AxisLength`], [`RopeError::PositionCount`], [`RopeError::Position`], or
    /// the device's error.
    pub fn with_axes(table: &RopeTable, axes: &[&[u32]]) -> Result<Positions, RopeError> {
        let expected = table.spec().axes().count();
        let &[first, ..] = axes else { return Err(RopeError::AxisCount { expected, found: 0 }) };
        if axes.len() != expected {
            return Err(RopeError::AxisCount { expected, found: axes.len() });
        }
        let tokens =
            u32::try_from(first.len()).map_err(|_| RopeError::PositionCount { found: first.len() })?;
        let length = table.length();
        for (axis, positions) in axes.iter().enumerate() {
            if positions.len() != first.len() {
                return Err(RopeError::AxisLength { axis, expected: first.len(), found: positions.len() });
            }
            if let Some(index) = positions.iter().position(|&position| position >= length) {
                return Err(RopeError::Position { position: positions[index], index, axis, length });
            }
        }
        let indices = axes.concat();
        let highest = indices.iter().copied().max();
        let indices = DeviceBuffer::from_host_vec(table.device(), indices)?;
        Ok(Positions { indices, tokens, axes: axes.len(), highest })
    }

    /// Tokens that have positions.
    pub fn tokens(&self) -> u32 {
        self.tokens
    }

    /// Fails unless these positions can index `table`.
    pub(crate) fn check_against(&self, table: &RopeTable) -> Result<(), RopeError> {
        let expected = table.spec().axes().count();
        if self.axes != expected {
            return Err(RopeError::AxisCount { expected, found: self.axes });
        }
        match self.highest {
            Some(highest) if highest >= table.length() => {
                Err(RopeError::OtherTable { highest, length: table.length() })
            }
            _ => Ok(()),
        }
    }
}
