//! Accesses of one place by waves that nothing orders.
//!
//! Of each word the last write and the last reads of two waves are kept. A wave is ordered after what the others had done
//! when they all met at a barrier, and after what a wave had done before an atomic operation on an address, once it did
//! one there itself. What was issued but not waited for is not done. (Flanagan and Freund, "FastTrack".)
//!
//! Plain loads and atomic operations do not race: compilers begin the loop that stands for an atomic operation with one.

use std::collections::HashMap;

/// The last access of a word by one wave, in 64 bits; zero is none. From the low bits: 4 bits for the bytes of the word, one
/// for an atomic operation, 16 for the word of the instruction, 19 for the access's number, 24 for the wave's plus one.
/// What is larger is cut to the largest value, which hides races and finds no others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Touch(u64);

const BYTES: u64 = 15;
const ATOMIC: u64 = 1 << 4;
const AT: u64 = (1 << 16) - 1;
const NUMBER: u64 = (1 << 19) - 1;
const WAVE: u64 = (1 << 24) - 1;

impl Touch {
    /// An access of all bytes of a word.
    pub(super) fn new(wave: u32, number: u32, at: usize, atomic: bool) -> Self {
        let wave = (u64::from(wave) + 1).min(WAVE);
        let (number, at) = (u64::from(number).min(NUMBER), (at as u64).min(AT));
        Self(wave << 40 | number << 21 | at << 5 | u64::from(atomic) << 4 | BYTES)
    }

    /// The wave's number.
    pub(super) fn wave(self) -> u32 {
        u32::try_from((self.0 >> 40).saturating_sub(1)).unwrap_or(0)
    }

    /// Its number among the wave's accesses.
    pub(super) fn number(self) -> u32 {
        u32::try_from(self.0 >> 21 & NUMBER).unwrap_or(0)
    }

    /// Word of the instruction, unless it lies too far behind.
    pub(super) fn at(self) -> Option<usize> {
        let at = self.0 >> 5 & AT;
        usize::try_from(at).ok().filter(|_| at < AT)
    }

    const fn with_bytes(self, bytes: u64) -> Self {
        Self(self.0 & !BYTES | bytes)
    }

    const fn is_atomic(self) -> bool {
        self.0 & ATOMIC != 0
    }

    const fn is_by_the_wave_of(self, other: Self) -> bool {
        self.0 >> 40 == other.0 >> 40
    }

    /// Whether it touches some of the same bytes, by another wave, with nothing between that orders the two.
    #[inline]
    fn is_unordered_with(self, other: Self, order: &Order<'_>) -> bool {
        self.0 != 0
            && !self.is_by_the_wave_of(other)
            && self.0 & other.0 & BYTES != 0
            && self.0 & other.0 & ATOMIC == 0
            && !order.is_after(self)
    }
}

/// What a wave is ordered after.
#[derive(Clone, Copy)]
pub(super) struct Order<'a> {
    pub(super) own: &'a Clock,
    pub(super) group: &'a Clock,
}

impl Order<'_> {
    fn is_after(&self, touch: Touch) -> bool {
        [self.own, self.group].iter().any(|clock| clock.has(touch.wave(), touch.number()))
    }
}

/// Of each wave, the number of the last access that lies before.
#[derive(Clone, Debug, Default)]
pub(super) struct Clock(HashMap<u32, u32>);

impl Clock {
    fn has(&self, wave: u32, number: u32) -> bool {
        self.0.get(&wave).is_some_and(|&seen| seen >= number)
    }

    /// Puts a wave's accesses up to a number before.
    pub(super) fn see(&mut self, wave: u32, number: u32) {
        let seen = self.0.entry(wave).or_default();
        *seen = number.max(*seen);
    }

    /// Puts all before that is before `other`.
    pub(super) fn join(&mut self, other: &Self) {
        other.0.iter().for_each(|(&wave, &number)| self.see(wave, number));
    }
}

/// What a wave does to a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It reads.
    Read,
    /// It reads what another wave may have published for it: the writers' accesses are before it from then on.
    Observe,
    /// It writes, or updates in one step.
    Write,
}

/// Two accesses that are not ordered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conflict {
    /// The earlier one.
    pub(super) other: Touch,
    /// Whether it wrote.
    pub(super) other_writes: bool,
    /// First byte of the word.
    pub(super) address: u64,
}

/// Words of a page.
const PAGE_WORDS: usize = 1024;
/// Bytes of a page.
const PAGE: u64 = 4 * PAGE_WORDS as u64;

/// Accesses of one page's words; what is never written or never read takes no room.
#[derive(Debug, Default)]
struct Page {
    writes: Vec<Touch>,
    reads: Vec<[Touch; 2]>,
}

/// The accesses of a memory's words, in pages that come as they are touched.
#[derive(Debug, Default)]
pub(super) struct Words {
    places: HashMap<u64, usize>,
    pages: Vec<Page>,
    /// Pages that were touched lately: number plus one, and place.
    recent: [(u64, usize); 16],
}

impl Words {
    fn page(&mut self, number: u64) -> Option<&mut Page> {
        let (known, place) = self.recent[usize::try_from(number % 16).unwrap_or(0)];
        if known == number + 1 {
            return self.pages.get_mut(place);
        }
        let next = self.pages.len();
        let place = *self.places.entry(number).or_insert(next);
        if place == next {
            self.pages.push(Page::default());
        }
        self.recent[usize::try_from(number % 16).unwrap_or(0)] = (number + 1, place);
        self.pages.get_mut(place)
    }

    /// Notes an access of a range. The writes that an `Observe` finds are added to `seen`; it is in nobody's way.
    ///
    /// # Errors
    ///
    /// The first conflict.
    pub(super) fn touch(
        &mut self,
        address: u64,
        bytes: u64,
        effect: Effect,
        touch: Touch,
        order: Order<'_>,
        seen: &mut Vec<Touch>,
    ) -> Result<(), Conflict> {
        let end = address.saturating_add(bytes);
        let mut start = address;
        while start < end {
            let number = start / PAGE;
            let next = end.min((number + 1) * PAGE);
            let Some(page) = self.page(number) else { return Ok(()) };
            page.touch(start..next, effect, touch, &order, seen)?;
            start = next;
        }
        Ok(())
    }
}

impl Page {
    /// Notes an access of a range of addresses within the page.
    fn touch(
        &mut self,
        range: std::ops::Range<u64>,
        effect: Effect,
        touch: Touch,
        order: &Order<'_>,
        seen: &mut Vec<Touch>,
    ) -> Result<(), Conflict> {
        if effect == Effect::Write {
            self.writes.resize(PAGE_WORDS, Touch::default());
        } else if effect == Effect::Read {
            self.reads.resize(PAGE_WORDS, [Touch::default(); 2]);
        }
        let words = range.start / 4..range.end.div_ceil(4);
        for word in words {
            let (low, high) = (range.start.max(4 * word) - 4 * word, range.end.min(4 * word + 4) - 4 * word);
            let touch = touch.with_bytes((1 << high) - (1 << low));
            let index = usize::try_from(word).unwrap_or(0) % PAGE_WORDS;
            let conflict = |other, other_writes| Conflict { other, other_writes, address: 4 * word };
            let write = self.writes.get(index).copied().unwrap_or_default();
            if effect == Effect::Observe {
                seen.extend(Some(write).filter(|write| *write != Touch::default()));
                continue;
            }
            let reads = effect == Effect::Read;
            if write.is_unordered_with(touch, order) && !(reads && write.is_atomic()) {
                return Err(conflict(write, true));
            }
            if reads {
                let places = &mut self.reads[index];
                if places[0].is_by_the_wave_of(touch) {
                    places[0] = touch;
                } else {
                    *places = [touch, places[0]];
                }
                continue;
            }
            let readers = self.reads.get(index).filter(|_| !touch.is_atomic());
            let mut readers = readers.into_iter().flatten();
            if let Some(read) = readers.find(|read| read.is_unordered_with(touch, order)) {
                return Err(conflict(*read, false));
            }
            self.writes[index] = touch;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Clock, Conflict, Effect, Order, Touch, Words};

    /// Touches a range as a wave that nothing is before.
    fn touch(words: &mut Words, wave: u32, address: u64, bytes: u64, effect: Effect) -> Result<(), Conflict> {
        let clock = Clock::default();
        let order = Order { own: &clock, group: &clock };
        words.touch(address, bytes, effect, Touch::new(wave, 1, 7, false), order, &mut Vec::new())
    }

    #[test]
    fn touches_keep_what_they_are_given() {
        let touch = Touch::new(70_000, 123_456, 4_321, true);
        assert_eq!((touch.wave(), touch.number(), touch.at()), (70_000, 123_456, Some(4_321)));
        let far = Touch::new(u32::MAX, u32::MAX, usize::MAX, false);
        assert_eq!((far.number(), far.at(), far.is_atomic()), ((1 << 19) - 1, None, false));
    }

    #[test]
    fn ranges_conflict_where_they_meet() {
        let mut words = Words::default();
        assert!(touch(&mut words, 0, 4094, 4, Effect::Write).is_ok());
        assert!(touch(&mut words, 1, 4092, 2, Effect::Write).is_ok(), "other bytes of the same word");
        assert!(touch(&mut words, 1, 4098, 8, Effect::Read).is_ok(), "other bytes of the next page");
        let conflict = touch(&mut words, 2, 4080, 32, Effect::Read).unwrap_err();
        assert_eq!((conflict.address, conflict.other.wave(), conflict.other_writes), (4092, 1, true));
        let conflict = touch(&mut words, 2, 4100, 4, Effect::Write).unwrap_err();
        assert_eq!((conflict.address, conflict.other.wave(), conflict.other_writes), (4100, 1, false));
    }

    #[test]
    fn the_readers_of_two_waves_are_kept() {
        let mut words = Words::default();
        for wave in [3, 4, 4, 4] {
            touch(&mut words, wave, 64, 4, Effect::Read).unwrap();
        }
        assert!(touch(&mut words, 4, 64, 4, Effect::Write).is_err(), "wave 3 reads");
        assert!(touch(&mut words, 3, 64, 4, Effect::Write).is_err(), "wave 4 reads");
    }
}
