//! Everything that is refused, by name, on the CPU and on every device: the error says what, and the operands are as they
//! were.
//!
//! Three errors are in no list: `PositionCount` needs more than 2^32 positions, `DType` a type of float that buffers cannot
//! have, and of `Mem` only foreign devices are the caller's doing. `CacheDType`, which only devices have, is in
//! `tests/append.rs`.

mod attempt;
mod operands;
mod specs;

use device_mem::Device;
use kernels_rope::RopeError;
use parity::{Gpu, Suite};

/// What is tried on a device.
type Attempted = dyn Fn(&Device) -> Result<RopeError, String>;

/// One thing that must be refused.
pub(crate) struct Refusal {
    pub(crate) name: String,
    /// The error, or what went wrong instead.
    run: Box<Attempted>,
    /// The error that it must be.
    expected: &'static str,
    is_expected: fn(&RopeError) -> bool,
}

/// Adds to a list what `$run` tries on a device, and the error that it must give.
macro_rules! refused {
    ($list:ident, $name:expr, $run:expr, $expected:pat) => {
        $list.push($crate::refusals::Refusal {
            name: format!("refused/{}", $name),
            run: Box::new($run),
            expected: stringify!($expected),
            is_expected: |error| matches!(error, $expected),
        })
    };
}
use refused;

/// The error of something that must fail.
fn error_of<R>(result: Result<R, RopeError>) -> Result<RopeError, String> {
    result.err().ok_or_else(|| "it was not refused".to_owned())
}

impl Refusal {
    /// Tries it on a device.
    pub(crate) fn check(&self, device: &Device) -> Result<(), String> {
        let error = (self.run)(device)?;
        if (self.is_expected)(&error) {
            return Ok(());
        }
        Err(format!("expected {}, got {error:?}", self.expected))
    }

    /// Tries it on the CPU and on the devices, and counts that.
    pub(crate) fn count(&self, suite: &Suite, devices: &[Gpu], tally: &mut parity::Tally) {
        let devices = devices.iter().map(|device| &**device);
        for (index, device) in [&Device::Cpu].into_iter().chain(devices).enumerate() {
            match self.check(device) {
                Ok(()) => tally.passed(index),
                Err(what) => tally.failed(suite.failure(&self.name, &format!("{device}: {what}"))),
            }
        }
    }
}

/// Every refusal.
pub(crate) fn all() -> Vec<Refusal> {
    let mut list = specs::refusals();
    list.extend(operands::refusals());
    list
}

/// Where a message must help: what was found, and what to do.
#[test]
fn messages_name_what_was_found_and_the_remedy() {
    for (name, parts) in [
        ("rotary-dim/63-of-128", &["63", "128", "partial_rotary_factor"][..]),
        ("theta/-1", &["-1", "rope_theta"]),
        ("linear/factor/0.5", &["linear", "factor", "0.5", "rope_scaling"]),
        ("position/second-of-three", &["position 100", "index 1", "100 positions", "a length above 100"]),
        ("cache/rows-shorter-than-heads", &["at least head_dim 8"]),
    ] {
        let list = all();
        let refusal = list.iter().find(|refusal| refusal.name == format!("refused/{name}")).unwrap();
        let message = (refusal.run)(&Device::Cpu).unwrap().to_string();
        parts.iter().for_each(|part| assert!(message.contains(part), "{part:?} is not in {message:?}"));
    }
}

/// Errors that no refusal can provoke on every device, for the reasons above.
const NOT_PROVOKED: [&str; 3] = ["PositionCount", "DType", "CacheDType"];

#[test]
fn every_error_is_provoked() {
    let source = include_str!("../../../src/error.rs");
    let variants = source.lines().filter_map(|line| line.strip_prefix("    ")?.strip_suffix(" {"));
    let variants = variants.filter(|name| name.chars().all(char::is_alphanumeric)).collect::<Vec<_>>();
    assert!(variants.len() > 25, "{variants:?}");
    let list = all();
    for variant in variants {
        let provoked =
            list.iter().any(|refusal| refusal.expected.starts_with(&format!("RopeError::{variant} {{")));
        assert_ne!(provoked, NOT_PROVOKED.contains(&variant), "{variant}");
    }
}
