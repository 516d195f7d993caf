//! Which bytes of an allocation were written.

use std::sync::atomic::{AtomicU64, Ordering};

/// One bit a byte, set once the byte was written.
#[derive(Debug)]
pub(crate) struct Written(Box<[AtomicU64]>);

/// Bits of one word from `first` on, at most `count` of them.
const fn bits(first: usize, count: usize) -> u64 {
    let ones = if count >= 64 { u64::MAX } else { (1 << count) - 1 };
    ones << first
}

impl Written {
    /// Nothing of `bytes` bytes is written.
    pub(crate) fn new(bytes: usize) -> Self {
        Self((0..bytes.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    /// The words of a range: which word, and the bits of it that lie in the range.
    fn words(&self, offset: usize, bytes: usize) -> impl Iterator<Item = (usize, &AtomicU64, u64)> {
        let end = offset.saturating_add(bytes);
        let covered = offset / 64..end.div_ceil(64).min(self.0.len());
        covered.filter_map(move |index| {
            let first = offset.max(64 * index);
            let count = end.min(64 * (index + 1)).saturating_sub(first);
            self.0.get(index).map(|word| (index, word, bits(first - 64 * index, count)))
        })
    }

    /// Marks a range as written.
    pub(crate) fn mark(&self, offset: usize, bytes: usize) {
        for (_, word, bits) in self.words(offset, bytes) {
            word.fetch_or(bits, Ordering::Relaxed);
        }
    }

    /// Offset of the first byte of a range that was never written.
    pub(crate) fn first_missing(&self, offset: usize, bytes: usize) -> Option<usize> {
        self.words(offset, bytes).find_map(|(index, word, bits)| {
            let missing = bits & !word.load(Ordering::Relaxed);
            let bit = usize::try_from(missing.trailing_zeros()).unwrap_or(0);
            (missing != 0).then_some(64 * index + bit)
        })
    }

    /// Makes a range as written as the range of the same length at `from_offset` of `from`, which may be itself.
    pub(crate) fn copy(&self, offset: usize, from: &Self, from_offset: usize, bytes: usize) {
        let missing = (0..bytes).map(|byte| from.first_missing(from_offset + byte, 1).is_some());
        let missing: Vec<bool> = missing.collect();
        for (byte, missing) in missing.into_iter().enumerate() {
            for (_, word, bits) in self.words(offset + byte, 1) {
                if missing {
                    word.fetch_and(!bits, Ordering::Relaxed);
                } else {
                    word.fetch_or(bits, Ordering::Relaxed);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Written;

    #[test]
    fn ranges_are_marked_to_the_byte() {
        for (offset, bytes) in [(0, 1), (63, 2), (5, 59), (0, 200), (64, 64), (127, 73), (10, 0)] {
            let written = Written::new(200);
            written.mark(offset, bytes);
            assert_eq!(written.first_missing(offset, bytes), None, "{offset} {bytes}");
            let before = (offset > 0 || bytes == 0).then_some(0);
            assert_eq!(written.first_missing(0, 200), before.or((bytes < 200).then_some(bytes)));
            let after = (offset + bytes < 200).then_some(offset + bytes);
            assert_eq!(written.first_missing(offset, 200 - offset), after.filter(|_| bytes > 0).or(after));
        }
    }

    #[test]
    fn copies_take_what_is_missing_along() {
        let (from, to) = (Written::new(100), Written::new(100));
        from.mark(0, 70);
        from.mark(75, 25);
        to.mark(0, 100);
        to.copy(3, &from, 60, 20);
        assert_eq!(to.first_missing(0, 100), Some(13));
        assert_eq!((to.first_missing(18, 82), to.first_missing(17, 1)), (None, Some(17)));
    }
}
