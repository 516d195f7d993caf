//! Where and how the sweep lets calls fail.

use std::collections::BTreeMap;

use anyhow::Result;
use hip_ffi::faults::{Fault, Mode};
use hip_ffi::sys::hipError_t;

use crate::sites::Phase;
use crate::subject::Answer;

/// Codes of each class, and one that no HIP knows.
const CODES: [u32; 17] = [1, 2, 3, 4, 98, 100, 101, 200, 209, 214, 304, 700, 702, 719, 720, 999, 12_345];

/// Calls that give something back.
const GIVE_BACK: [&str; 5] =
    ["hipFree", "hipModuleUnload", "hipStreamDestroy", "hipGraphDestroy", "hipGraphExecDestroy"];

/// Calls at which a device can stop, so that the process sees it: those that give it work, and the question whether it is done.
/// Others that never return are for a supervisor to end.
const HANG: [&str; 5] =
    ["hipModuleLaunchKernel", "hipMemcpyAsync", "hipMemsetAsync", "hipGraphLaunch", "hipStreamQuery"];

/// One call that fails in one way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub(crate) phase: Phase,
    pub(crate) fault: Fault,
}

/// Every call of a run without a fault, with every mode and code that it can have.
pub(crate) fn points(looked: &[&'static str], answer: &Answer) -> Result<Vec<Point>> {
    let mut points = Vec::new();
    let mut counts = BTreeMap::new();
    for &call in looked {
        add(&mut points, Phase::Doctor, call, &mut counts);
    }
    let mut counts = BTreeMap::new();
    for (index, &call) in answer.met.calls.iter().enumerate() {
        add(&mut points, answer.phase_of(index + 1)?, call, &mut counts);
    }
    Ok(points)
}

fn add(
    points: &mut Vec<Point>,
    phase: Phase,
    call: &'static str,
    counts: &mut BTreeMap<&'static str, usize>,
) {
    let at = counts.entry(call).or_default();
    *at += 1;
    let at = *at;
    let mut push =
        |mode, code| points.push(Point { phase, fault: Fault { call, at, code: hipError_t(code), mode } });
    for code in CODES {
        for mode in [Mode::Once, Mode::Sticky, Mode::Part, Mode::Late] {
            push(mode, code);
        }
        if GIVE_BACK.contains(&call) {
            push(Mode::Cleanup, code);
        }
    }
    if HANG.contains(&call) && phase != Phase::Doctor {
        push(Mode::Hang, hipError_t::hipErrorLaunchTimeOut.0);
    }
}
