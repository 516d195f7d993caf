//! The checks: each finds the mistakes that were planted for it, and passes the same kernels without them.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod assembled;
mod card;
mod counts;
mod deleted;
mod planted;
mod unwritten;
