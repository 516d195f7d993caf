//! Many tokens with a quantised weight, in whole numbers: tokens stand side by side in the lanes of vectors.
//!
//! The products of a group, of half a group where halves have scales of their own, are summed exactly and scaled, the minimum
//! is taken away, and groups are added in ascending order. No instruction of any CPU changes a bit.

use std::ops::Range;

use device_mem::{Body, Isa, Level};
use rayon::prelude::*;

use super::GROUP;
use super::groups::Group;
#[cfg(target_arch = "x86_64")]
use super::simd;
use super::token::round;
use crate::blocks::BlockType;
use crate::cpu::tiled::{BLOCK_ROWS, DEPTH, Tiles};

/// Tokens of a panel: one a lane.
pub(super) const TOKENS: usize = 16;
/// Groups of a row that are made ready at once.
pub(super) const GROUPS: usize = DEPTH / GROUP;

/// Levels that are multiplied together.
pub(super) type Word = [u8; 4];

/// A word of each token of a panel.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Line(pub(super) [Word; TOKENS]);

impl Line {
    /// Of no token.
    const NONE: Line = Line([[0; 4]; TOKENS]);
}

/// What a word holds.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Layout {
    /// Four levels of 8 bits, those of a weight 128 up: what AVX-512's instruction multiplies.
    Fours,
    /// Two levels of 16 bits.
    #[default]
    Pairs,
}

impl Layout {
    fn of(isa: Isa) -> Layout {
        if isa.level() == Level::Avx512 { Layout::Fours } else { Layout::Pairs }
    }

    /// Words of a group.
    pub(super) const fn words(self) -> usize {
        match self {
            Layout::Fours => GROUP / 4,
            Layout::Pairs => GROUP / 2,
        }
    }
}

/// Tokens side by side, rounded to 8 bits. Lanes without a token hold zeros.
#[derive(Default)]
pub(in crate::cpu) struct BlockPanels {
    layout: Layout,
    in_features: usize,
    /// `[panels, groups, words]`
    lines: Vec<Line>,
    /// `[panels, groups]`
    scales: Vec<[f32; TOKENS]>,
    /// The sums of the levels of both halves, `[panels, groups]`.
    sums: Vec<[[i32; TOKENS]; 2]>,
}

/// Some groups of a panel.
#[derive(Clone, Copy)]
pub(super) struct Panel<'a> {
    pub(super) lines: &'a [Line],
    pub(super) scales: &'a [[f32; TOKENS]],
    pub(super) sums: &'a [[[i32; TOKENS]; 2]],
}

impl BlockPanels {
    /// Holds `x` `[tokens, in_features]` from now on.
    pub(in crate::cpu) fn lay(&mut self, isa: Isa, x: &[f32], in_features: usize) {
        let layout = Layout::of(isa);
        (self.layout, self.in_features) = (layout, in_features);
        let groups = in_features / GROUP;
        let all = (x.len() / in_features).div_ceil(TOKENS) * groups;
        self.lines.resize(all * layout.words(), Line::NONE);
        self.scales.resize(all, [0.0; TOKENS]);
        self.sums.resize(all, [[0; TOKENS]; 2]);
        let lines_of = self.lines.par_chunks_exact_mut(groups * layout.words());
        let of_groups = self.scales.par_chunks_exact_mut(groups).zip(self.sums.par_chunks_exact_mut(groups));
        let tokens = x.par_chunks(TOKENS * in_features);
        lines_of.zip(of_groups).zip(tokens).for_each(|((lines, (scales, sums)), x)| {
            if x.len() < TOKENS * in_features {
                lines.fill(Line::NONE);
                scales.fill([0.0; TOKENS]);
                sums.fill([[0; TOKENS]; 2]);
            }
            isa.run(Pack { layout, x, in_features, lines, scales, sums });
        });
    }

    /// Those groups of a panel.
    fn part(&self, panel: usize, groups: Range<usize>) -> Panel<'_> {
        let all = self.in_features / GROUP;
        let groups = panel * all + groups.start..panel * all + groups.end;
        let lines = groups.start * self.layout.words()..groups.end * self.layout.words();
        Panel { lines: &self.lines[lines], scales: &self.scales[groups.clone()], sums: &self.sums[groups] }
    }
}

/// The tokens of a panel.
struct Pack<'a> {
    layout: Layout,
    x: &'a [f32],
    in_features: usize,
    lines: &'a mut [Line],
    scales: &'a mut [[f32; TOKENS]],
    sums: &'a mut [[[i32; TOKENS]; 2]],
}

impl Body for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (token, x) in self.x.chunks_exact(self.in_features).enumerate() {
            let lines = self.lines.chunks_exact_mut(self.layout.words());
            let of_groups = lines.zip(self.scales.iter_mut().zip(self.sums.iter_mut()));
            for (x, (lines, (scales, sums))) in x.as_chunks::<GROUP>().0.iter().zip(of_groups) {
                let (levels, scale) = round(x);
                scales[token] = scale;
                for (sums, half) in sums.iter_mut().zip(levels.as_chunks::<{ GROUP / 2 }>().0) {
                    sums[token] = half.iter().map(|&level| i32::from(level)).sum();
                }
                match self.layout {
                    Layout::Fours => {
                        for (line, four) in lines.iter_mut().zip(levels.as_chunks::<4>().0) {
                            line.0[token] = four.map(i8::cast_unsigned);
                        }
                    }
                    Layout::Pairs => {
                        for (line, &pair) in lines.iter_mut().zip(levels.as_chunks::<2>().0) {
                            line.0[token] = word(pair);
                        }
                    }
                }
            }
        }
    }
}

/// Two levels of 16 bits.
#[inline(always)]
pub(super) fn word([first, second]: [i8; 2]) -> Word {
    let ([a, b], [c, d]) = (i16::from(first).to_le_bytes(), i16::from(second).to_le_bytes());
    [a, b, c, d]
}

/// A part of some rows of a weight, taken apart.
pub(in crate::cpu) struct Unpacked {
    pub(super) layout: Layout,
    pub(super) block: BlockType,
    /// Groups of each row that are there, at most [`GROUPS`].
    pub(super) groups: usize,
    /// `[BLOCK_ROWS, GROUPS * words]`
    pub(super) words: Vec<Word>,
    /// `[BLOCK_ROWS, GROUPS]`, the scales of both halves.
    pub(super) scales: Vec<[[f32; 2]; GROUPS]>,
    /// `[BLOCK_ROWS, GROUPS]`
    pub(super) minima: Vec<[f32; GROUPS]>,
}

impl Unpacked {
    fn new(layout: Layout, block: BlockType) -> Unpacked {
        Unpacked {
            layout,
            block,
            groups: 0,
            words: vec![[0; 4]; BLOCK_ROWS * GROUPS * layout.words()],
            scales: vec![[[0.0; 2]; GROUPS]; BLOCK_ROWS],
            minima: vec![[0.0; GROUPS]; BLOCK_ROWS],
        }
    }

    /// Words from the start of a row to that of the next.
    pub(super) fn row_words(&self) -> usize {
        GROUPS * self.layout.words()
    }

    /// Takes whole blocks of a row apart.
    fn unpack(&mut self, isa: Isa, row: usize, bytes: &[u8]) {
        #[cfg(target_arch = "x86_64")]
        if simd::unpack(isa, self, row, bytes) {
            return;
        }
        let _ = isa;
        let row_words = self.row_words();
        let words = &mut self.words[row * row_words..(row + 1) * row_words];
        let (scales, minima) = (&mut self.scales[row], &mut self.minima[row]);
        let groups = bytes.chunks_exact(self.block.block_bytes());
        let groups = groups.flat_map(|bytes| Group::all(self.block, bytes));
        let words = words.chunks_exact_mut(self.layout.words());
        for ((group, words), (scales, minimum)) in groups.zip(words).zip(scales.iter_mut().zip(minima)) {
            for (place, &pair) in words.iter_mut().zip(group.levels.as_chunks::<2>().0) {
                *place = word(pair);
            }
            (*scales, *minimum) = (group.scales, group.minimum);
        }
    }
}

/// A weight of blocks.
pub(in crate::cpu) struct BlockTiles<'a> {
    pub(in crate::cpu) isa: Isa,
    pub(in crate::cpu) panels: &'a BlockPanels,
    pub(in crate::cpu) block: BlockType,
    pub(in crate::cpu) weight: &'a [u8],
}

impl Tiles for BlockTiles<'_> {
    type Memory = Unpacked;

    fn memory(&self) -> Unpacked {
        Unpacked::new(self.panels.layout, self.block)
    }

    fn panel_tokens(&self) -> usize {
        TOKENS
    }

    fn multiply(&self, rows: Range<usize>, weight: &mut Unpacked, sums: &mut [f32]) {
        let &BlockTiles { isa, panels, block, .. } = self;
        let in_features = panels.in_features;
        let bytes_of = |elements: usize| elements / block.block_len() * block.block_bytes();
        let groups = in_features / GROUP;
        sums.fill(0.0);
        for first in (0..groups).step_by(GROUPS) {
            let part = first..groups.min(first + GROUPS);
            weight.groups = part.len();
            for (place, row) in rows.clone().enumerate() {
                let row = &self.weight[row * bytes_of(in_features)..(row + 1) * bytes_of(in_features)];
                weight.unpack(isa, place, &row[bytes_of(part.start * GROUP)..bytes_of(part.end * GROUP)]);
            }
            // Two panels share one read of the weight.
            for (pair, sums) in sums.chunks_mut(2 * BLOCK_ROWS * TOKENS).enumerate() {
                let panel = |side| panels.part(2 * pair + side, part.clone());
                let (sums, _) = sums.as_chunks_mut::<TOKENS>();
                match sums.split_at_mut_checked(BLOCK_ROWS) {
                    Some((sums, [])) => add_products_of_one(isa, weight, rows.len(), panel(0), sums),
                    Some((first, second)) => {
                        let (panels, sums) = ([panel(0), panel(1)], [first, second]);
                        add_products_of_two(isa, weight, rows.len(), panels, sums);
                    }
                    None => {}
                }
            }
        }
    }
}

/// Adds the products of `rows` rows and the tokens of both panels to their sums `[BLOCK_ROWS]`.
fn add_products_of_two(
    isa: Isa,
    weight: &Unpacked,
    rows: usize,
    panels: [Panel<'_>; 2],
    mut sums: [&mut [[f32; TOKENS]]; 2],
) {
    #[cfg(target_arch = "x86_64")]
    if simd::add_products_of_two(isa, weight, rows, panels, sums.each_mut().map(|sums| &mut **sums)) {
        return;
    }
    for (panel, sums) in panels.into_iter().zip(sums) {
        add_products_of_one(isa, weight, rows, panel, sums);
    }
}

/// Adds the products of `rows` rows and the tokens of a panel to its sums `[BLOCK_ROWS]`.
fn add_products_of_one(
    isa: Isa,
    weight: &Unpacked,
    rows: usize,
    panel: Panel<'_>,
    sums: &mut [[f32; TOKENS]],
) {
    #[cfg(target_arch = "x86_64")]
    if simd::add_products_of_one(isa, weight, rows, panel, sums) {
        return;
    }
    let _ = isa;
    for (row, sums) in sums.iter_mut().take(rows).enumerate() {
        baseline(weight, row, &panel, sums);
    }
}

/// A row and a panel, in pairs.
fn baseline(weight: &Unpacked, row: usize, panel: &Panel<'_>, sums: &mut [f32; TOKENS]) {
    let words = weight.words[row * weight.row_words()..].chunks_exact(weight.layout.words());
    let lines = panel.lines.chunks_exact(weight.layout.words());
    for (group, (words, lines)) in words.zip(lines).take(weight.groups).enumerate() {
        let mut halves = [[0; TOKENS]; 2];
        for (index, (word, line)) in words.iter().zip(lines).enumerate() {
            let levels = |word: Word| {
                let [a, b, c, d] = word;
                [[a, b], [c, d]].map(|level| i32::from(i16::from_le_bytes(level)))
            };
            let [first, second] = levels(*word);
            let whole = &mut halves[index / (weight.layout.words() / 2)];
            for (whole, &token) in whole.iter_mut().zip(&line.0) {
                let [x, y] = levels(token);
                *whole += first * x + second * y;
            }
        }
        let ([first, second], minimum) = (weight.scales[row][group], weight.minima[row][group]);
        for (token, sum) in sums.iter_mut().enumerate() {
            let scale = panel.scales[group][token];
            let mut add = |factor: f32, whole: i32| *sum += factor * scale * whole as f32;
            match has_halves(weight.block) {
                true => {
                    add(first, halves[0][token]);
                    add(second, halves[1][token]);
                }
                false => add(first, halves[0][token] + halves[1][token]),
            }
            if has_minima(weight.block) {
                let [first, second] = panel.sums[group];
                *sum -= minimum * (scale * (first[token] + second[token]) as f32);
            }
        }
    }
}

/// Whether the halves of a group have scales of their own.
pub(super) const fn has_halves(block: BlockType) -> bool {
    matches!(block, BlockType::Q6_K)
}

/// Whether elements have a minimum.
pub(super) const fn has_minima(block: BlockType) -> bool {
    matches!(block, BlockType::Q5_1 | BlockType::Q4_K | BlockType::Q5_K)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of more than a group of them, and tokens of more than a pair of panels.
    const SHAPES: [(usize, usize); 3] = [(13, 40), (1, 16), (49, 33)];

    #[test]
    fn vector_instructions_change_no_bit() {
        for (block, (rows, tokens)) in BlockType::ALL.into_iter().flat_map(|block| SHAPES.map(|s| (block, s)))
        {
            // More than is made ready at once, and for blocks of one group a part of that.
            let in_features = if block.block_len() == GROUP { DEPTH + 3 * GROUP } else { 2 * DEPTH };
            let values = parity::uniform::<f32>(1, (rows + tokens) * in_features);
            let (weights, x) = values.split_at(rows * in_features);
            let mut bytes = vec![0; weights.len() / block.block_len() * block.block_bytes()];
            block.quantize(weights, &mut bytes).unwrap();
            let found = Vec::from_iter(Isa::available().map(|isa| {
                // What longer rows have left is not seen.
                let mut panels = BlockPanels::default();
                panels.lay(isa, &vec![-2.0; 2 * x.len()], 2 * in_features);
                panels.lay(isa, x, in_features);
                let tiles = BlockTiles { isa, panels: &panels, block, weight: &bytes };
                let mut sums = vec![0.0; tokens.div_ceil(TOKENS) * BLOCK_ROWS * TOKENS];
                let mut all = Vec::new();
                for first in (0..rows).step_by(BLOCK_ROWS) {
                    let rows = first..rows.min(first + BLOCK_ROWS);
                    tiles.multiply(rows.clone(), &mut tiles.memory(), &mut sums);
                    for panel in sums.chunks_exact(BLOCK_ROWS * TOKENS) {
                        all.extend(panel[..rows.len() * TOKENS].iter().map(|sum| sum.to_bits()));
                    }
                }
                (isa, all)
            }));
            assert!(found[0].1.iter().any(|&bits| bits != 0));
            for (isa, bits) in &found {
                assert_eq!(bits, &found[0].1, "{block} [{rows}, {in_features}] {tokens} {isa:?}");
            }
        }
    }

    #[test]
    fn any_bytes_and_the_ends_of_the_levels_come_out_alike() {
        for block in BlockType::ALL {
            for (fill, x) in [(0x00, 1.0), (0x80, 1.0), (0x7b, -1.0), (0x55, 1.0), (0xff, -1.0), (0xfb, 1.0)]
            {
                let weight = vec![fill; DEPTH / block.block_len() * block.block_bytes()];
                let sum = |isa| {
                    let mut panels = BlockPanels::default();
                    panels.lay(isa, &[x; DEPTH], DEPTH);
                    let tiles = BlockTiles { isa, panels: &panels, block, weight: &weight };
                    let mut sums = vec![0.0; BLOCK_ROWS * TOKENS];
                    tiles.multiply(0..1, &mut tiles.memory(), &mut sums);
                    sums[0]
                };
                let all = Vec::from_iter(Isa::available().map(sum));
                let alike = |sum: &f32| sum.to_bits() == all[0].to_bits() || sum.is_nan() && all[0].is_nan();
                assert!(all.iter().all(alike), "{block} {fill}: {all:?}");
            }
        }
    }
}
