use std::ops::Range;
use std::sync::Arc;

use device_mem::{DeviceBuffer, MemError, View};

use crate::{Axes, RopeError, RopeTable};

/// Positions `[axes, tokens]` of the tokens of one forward pass, proven to lie inside a table, on its device before any
/// layer asks for them.
#[derive(Debug)]
pub struct Positions {
    /// What holds them, perhaps among others.
    indices: Arc<DeviceBuffer<u32>>,
    /// Which of these they are.
    range: Range<usize>,
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

    /// The positions `first..first + count`, one per token: a prefill from `first` on, or one decoded token. With one axis
    /// nothing is uploaded or allocated: they are a part of the positions that the table holds.
    ///
    /// # Errors
    /// [`RopeError::Span`] when they end beyond the table; otherwise as [`new`](Positions::new).
    pub fn span(table: &RopeTable, first: u32, count: u32) -> Result<Positions, RopeError> {
        let length = table.length();
        match first.checked_add(count) {
            Some(end) if end <= length => match table.spec().axes() {
                Axes::Single => Ok(Positions::of_table(table, first, end)),
                Axes::Sections(_) | Axes::TwoBlocks => Positions::new(table, &Vec::from_iter(first..end)),
            },
            _ => Err(RopeError::Span { first, count, length }),
        }
    }

    /// The table's own positions `first..end`, which it has.
    fn of_table(table: &RopeTable, first: u32, end: u32) -> Positions {
        let range = first as usize..end as usize;
        let highest = end.checked_sub(1).filter(|_| first < end);
        Positions { indices: table.positions.clone(), range, tokens: end - first, axes: 1, highest }
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
        let range = 0..indices.len();
        let indices = Arc::new(DeviceBuffer::from_host_vec(table.device(), indices)?);
        Ok(Positions { indices, range, tokens, axes: axes.len(), highest })
    }

    /// Tokens that have positions.
    pub fn tokens(&self) -> u32 {
        self.tokens
    }

    /// `[axes, tokens]`.
    pub(crate) fn view(&self) -> Result<View<'_, u32>, MemError> {
        self.indices.view(self.range.clone())
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
