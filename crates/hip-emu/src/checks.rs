//! Which checks a card makes while kernels run.

use std::{fmt, str::FromStr};

/// What is looked for while a kernel runs, beside accesses outside every allocation, which always are.
///
/// Any of them makes launches run on one thread, group after group.
///
/// Not followed, and never reported: what the conversion of buffer elements with a format makes of bits that were never
/// written, which count as written from there on; the data of loads from buffers to LDS, whose reads of global memory are
/// checked for their bounds alone; the word that `lds_direct_load` reads, and waits for it (`expcnt`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    /// Accesses of freed memory, told as such: what is freed stays reserved for a while, so that its addresses are not given
    /// out again.
    pub memory: bool,
    /// Values that were never written, in registers, LDS, scratch or global memory, once an address, a branch, the set of
    /// active lanes, memory that is stored to or the host depends on them.
    pub init: bool,
    /// Accesses of one place in LDS or global memory by two waves that nothing orders, one of which writes.
    pub race: bool,
    /// Registers that are used while a load into them is in flight, and barriers that some waves end without reaching.
    pub sync: bool,
    /// Accesses whose address is no multiple of the element's size, or of four bytes. Hardware executes them, slowly, and
    /// compilers make them of packed structures on purpose, so this is none of [`Checks::ALL`]. Atomics must always be
    /// aligned.
    pub align: bool,
}

impl Checks {
    /// None of them.
    pub const NONE: Self = Self { memory: false, init: false, race: false, sync: false, align: false };
    /// All that find only errors.
    pub const ALL: Self = Self { memory: true, init: true, race: true, sync: true, align: false };

    const NAMES: [&str; 5] = ["memory", "init", "race", "sync", "align"];

    const fn flags(&self) -> [bool; 5] {
        [self.memory, self.init, self.race, self.sync, self.align]
    }
}

/// Names between commas, `all`, or nothing.
impl FromStr for Checks {
    type Err = ParseChecksError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut checks = Self::NONE;
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match name {
                "all" => checks = Self { align: checks.align, ..Self::ALL },
                "memory" => checks.memory = true,
                "init" => checks.init = true,
                "race" => checks.race = true,
                "sync" => checks.sync = true,
                "align" => checks.align = true,
                _ => return Err(ParseChecksError { found: name.to_owned() }),
            }
        }
        Ok(checks)
    }
}

impl fmt::Display for Checks {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> =
            Self::NAMES.into_iter().zip(self.flags()).filter_map(|(name, on)| on.then_some(name)).collect();
        out.write_str(&names.join(","))
    }
}

/// The text names no check.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("checks are memory, init, race, sync and align between commas, or all; found {found:?}")]
pub struct ParseChecksError {
    /// What stood there.
    pub found: String,
}

#[cfg(test)]
mod tests {
    use super::{Checks, ParseChecksError};

    #[test]
    fn lists_read_and_print() {
        for text in ["", "memory", "init,race", "memory,init,race,sync", "sync,align"] {
            assert_eq!(text.parse::<Checks>().unwrap().to_string(), text);
        }
        assert_eq!("all".parse(), Ok(Checks::ALL));
        assert_eq!(" sync , memory,".parse(), Ok(Checks { memory: true, sync: true, ..Checks::NONE }));
        assert_eq!("memory,speed".parse::<Checks>(), Err(ParseChecksError { found: "speed".to_owned() }));
    }
}
