//! Each kernel on the device in hand, against the CPU or f64: for `glm selfcheck`, and before a card is first used.

mod attend;
mod blocks;
mod case;
mod layers;
mod remember;
mod rotary;
#[cfg(test)]
mod wrong;

use std::fmt;

use anyhow::{Context, Result, anyhow};
use device_mem::{Device, DeviceChoice, Opened};
use serde_json::{Value, json};

use crate::args::SelfcheckArgs;
use crate::device::Asked;
use crate::run;
use case::{Case, Found, Outcome};

pub(crate) use remember::before_first_use;

/// Prints how every kernel came out, and fails if one is wrong.
pub(crate) fn execute(args: &SelfcheckArgs) -> Result<()> {
    if args.device == Asked::Of(DeviceChoice::Cpu) {
        return Err(anyhow!(
            "the CPU is what devices are checked against; ask for --device hip, hip:N or emu"
        ));
    }
    let Opened { device, fallback } =
        args.device.open().with_context(|| format!("--device {} is not to be had", args.device))?;
    if let Some(reason) = fallback {
        return Err(reason)
            .context("there is no card to check; --device emu checks the kernels on an emulated one");
    }
    let outcomes = outcomes(&device)?;
    let lines = match args.json {
        true => format!("{}\n", Value::Array(outcomes.iter().map(as_json).collect())),
        false => table(&outcomes, &place(args.device, &device)),
    };
    run::say(&lines)?;
    failures(&outcomes).map_or(Ok(()), |failed| Err(failed.into()))
}

fn cases() -> Result<Vec<Case>> {
    Ok([rotary::cases(), layers::cases()?, blocks::cases()?, attend::cases()?]
        .into_iter()
        .flatten()
        .collect())
}

/// Runs every case.
fn outcomes(device: &Device) -> Result<Vec<Outcome>> {
    let check =
        |case: Case| case.outcome(device).with_context(|| format!("{} cannot run on {device}", case.kernel));
    cases()?.into_iter().map(check).collect()
}

fn failures(outcomes: &[Outcome]) -> Option<WrongKernels> {
    let failed = outcomes.iter().filter(|outcome| !outcome.passed());
    let kernels = Vec::from_iter(failed.map(|outcome| format!("{}: {}", outcome.kernel, outcome.found)));
    (!kernels.is_empty()).then_some(WrongKernels { kernels, of: outcomes.len() })
}

/// Kernels that do not compute what they should.
#[derive(Debug)]
pub(crate) struct WrongKernels {
    kernels: Vec<String>,
    of: usize,
}

impl fmt::Display for WrongKernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WrongKernels { kernels, of } = self;
        let (wrong, list) = (kernels.len(), kernels.join("; "));
        write!(
            f,
            "{wrong} of {of} checks of the device's kernels failed ({list}); use --device cpu, and report this"
        )
    }
}

impl std::error::Error for WrongKernels {}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::Differing(0) => f.write_str("the CPU's, bit for bit"),
            Found::Differing(differing) => write!(f, "{differing} not the CPU's"),
            Found::OfBound(worst) => write!(f, "{worst:.3} of the bound"),
        }
    }
}

/// The device, and that it is emulated if it is.
fn place(asked: Asked, device: &Device) -> String {
    match (asked, device) {
        (Asked::Emulator(_), Device::Hip(hip)) => format!("an emulated {}", hip.properties().arch),
        (_, device) => device.to_string(),
    }
}

fn table(outcomes: &[Outcome], place: &str) -> String {
    let width =
        |text: fn(&Outcome) -> &str| outcomes.iter().map(|outcome| text(outcome).len()).max().unwrap_or(0);
    let (kernel, operands) = (width(|outcome| &outcome.kernel), width(|outcome| &outcome.operands));
    let mut lines = String::new();
    for outcome in outcomes {
        let mark = if outcome.passed() { "ok  " } else { "FAIL" };
        let Outcome { kernel: name, operands: shape, values, found } = outcome;
        lines += &format!("{mark} {name:kernel$}  {shape:operands$}  {values:>6} values: {found}\n");
    }
    let passed = outcomes.iter().filter(|outcome| outcome.passed()).count();
    lines + &format!("{passed} of {} checks passed on {place}\n", outcomes.len())
}

fn as_json(outcome: &Outcome) -> Value {
    let (differing, of_bound) = match outcome.found {
        Found::Differing(differing) => (Some(differing), None),
        Found::OfBound(worst) => (None, Some(worst)),
    };
    json!({
        "kernel": outcome.kernel,
        "operands": outcome.operands,
        "values": outcome.values,
        "differing_from_cpu": differing,
        "worst_of_bound": of_bound,
        "passed": outcome.passed(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::IMAGES;

    #[test]
    fn every_embedded_kernel_has_a_case() {
        let cases = cases().unwrap();
        for set in IMAGES.iter().flat_map(|(_, sets)| *sets) {
            let family = set.decl.family;
            let checked = cases.iter().any(|case| case.kernel.split([' ', ',']).next() == Some(family));
            assert!(checked, "no case of glm selfcheck runs {family}");
        }
    }
}
