//! Positions of the tokens of a case.

use parity::SplitMix64;

/// The positions of a case's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// Consecutive ones from the first on: what the table itself holds.
    Span(u32),
    /// All the same.
    Same(u32),
    /// Drawn by the seed below this one, for each axis anew.
    Below(u32),
    /// These, over and over, under this name.
    Listed(&'static str, &'static [u32]),
    /// FlashInfer's batch of sequences of this many tokens, each from the same position on. The first and the last token are
    /// among those that run; the others are drawn by the seed.
    Batch {
        sequences: u32,
        tokens: u32,
        first: u32,
        /// Whether tokens come in another order than their positions.
        shuffled: bool,
    },
}

impl At {
    pub(crate) fn name(&self) -> String {
        match self {
            At::Span(first) => format!("from{first}"),
            At::Same(position) => format!("at{position}"),
            At::Below(bound) => format!("below{bound}"),
            At::Listed(name, _) => (*name).to_owned(),
            At::Batch { sequences, tokens, first, shuffled } => {
                let order = if *shuffled { "-shuffled" } else { "" };
                format!("batch{sequences}x{tokens}-from{first}{order}")
            }
        }
    }

    /// Positions `[axes][tokens]`.
    pub(crate) fn axes(&self, axes: usize, tokens: u32, seed: u64) -> Vec<Vec<u32>> {
        let mut random = SplitMix64::new(seed);
        (0..axes).map(|_| self.of_one_axis(tokens, &mut random)).collect()
    }

    fn of_one_axis(&self, tokens: u32, random: &mut SplitMix64) -> Vec<u32> {
        match self {
            At::Span(first) => (*first..first + tokens).collect(),
            At::Same(position) => vec![*position; tokens as usize],
            At::Below(bound) => (0..tokens).map(|_| random.below(*bound)).collect(),
            At::Listed(_, list) => list.iter().copied().cycle().take(tokens as usize).collect(),
            At::Batch { sequences, tokens: each, first, shuffled } => {
                let all = sequences * each;
                let mut drawn: Vec<u32> = (0..tokens).map(|_| random.below(all)).collect();
                if let [start, .., end] = drawn.as_mut_slice() {
                    (*start, *end) = (0, all - 1);
                }
                drawn.sort_unstable();
                if *shuffled {
                    let mut rest = tokens;
                    while rest > 1 {
                        drawn.swap(random.below(rest) as usize, rest as usize - 1);
                        rest -= 1;
                    }
                }
                drawn.into_iter().map(|token| first + token % each).collect()
            }
        }
    }
}
