//! How the tokens of several sequences, one after another, are cut into passes.

use std::ops::Range;

/// The tokens of one sequence that are in a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) sequence: usize,
    pub(crate) tokens: Range<usize>,
}

/// As few passes as can be of at most `most` tokens, whose lengths differ by at most 1: where there are several, none has
/// less than half of `most`. `lengths` are those of the sequences.
pub(crate) fn passes(lengths: &[usize], most: usize) -> Vec<Vec<Share>> {
    let total: usize = lengths.iter().sum();
    let count = total.div_ceil(most.max(1));
    let longer = total.checked_rem(count).unwrap_or(0);
    let mut start = 0;
    let pass = |index| {
        let first = start;
        start += total / count + usize::from(index < longer);
        shares(lengths, first..start)
    };
    (0..count).map(pass).collect()
}

/// What lies in `pass` of sequences that follow each other.
fn shares(lengths: &[usize], pass: Range<usize>) -> Vec<Share> {
    let mut shares = Vec::new();
    let mut start = 0;
    for (sequence, &length) in lengths.iter().enumerate() {
        let tokens = pass.start.clamp(start, start + length)..pass.end.clamp(start, start + length);
        if !tokens.is_empty() {
            shares.push(Share { sequence, tokens: tokens.start - start..tokens.end - start });
        }
        start += length;
    }
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sequences_share_passes_and_are_cut_between_them() {
        let share = |sequence, tokens| Share { sequence, tokens };
        assert_eq!(passes(&[3, 4], 8), [vec![share(0, 0..3), share(1, 0..4)]]);
        assert_eq!(passes(&[3, 4], 4), [vec![share(0, 0..3), share(1, 0..1)], vec![share(1, 1..4)]]);
        assert_eq!(passes(&[1], 1), [vec![share(0, 0..1)]]);
        assert!(passes(&[], 4).is_empty());
    }

    proptest! {
        #[test]
        fn every_token_is_run_once_in_order_by_passes_of_equal_length(
            lengths in prop::collection::vec(1_usize..300, 1..5),
            most in 1_usize..100,
        ) {
            let passes = passes(&lengths, most);
            let mut run: Vec<usize> = vec![0; lengths.len()];
            for share in passes.iter().flatten() {
                prop_assert_eq!(share.tokens.start, run[share.sequence]);
                prop_assert!(run[..share.sequence].iter().eq(&lengths[..share.sequence]));
                run[share.sequence] = share.tokens.end;
            }
            prop_assert_eq!(&run, &lengths);
            let tokens = |pass: &Vec<Share>| pass.iter().map(|share| share.tokens.len()).sum::<usize>();
            prop_assert!(passes.iter().all(|pass| tokens(pass) <= most));
            prop_assert!(passes.len() == 1 || passes.iter().all(|pass| 2 * tokens(pass) >= most));
        }
    }
}
