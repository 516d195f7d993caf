//! A table whose calls fail on demand, around another table: for tests of what is built on this crate.
//!
//! Functions of C hold no state, so there is one plan in a process, and tests that use it take turns.
//!
//! ```
//! use hip_ffi::HipApi;
//! use hip_ffi::faults::{self, Fault, Mode};
//! use hip_ffi::sys::hipError_t;
//!
//! /// The third wait fails, whoever fills the table.
//! fn failing(api: HipApi) -> HipApi {
//!     let api = faults::around(api);
//!     let code = hipError_t::hipErrorLaunchFailure;
//!     faults::plan(Some(Fault { call: "hipStreamSynchronize", at: 3, code, mode: Mode::Sticky }));
//!     api
//! }
//! ```

mod ledger;
mod table;

use core::ptr::{with_exposed_provenance as address, with_exposed_provenance_mut as address_mut};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::HipApi;
use crate::sys::{hipError_t, hipMemcpyKind};
use ledger::Ledger;

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The C function.
    pub call: &'static str,
    /// Which of its calls since [`plan`], from 1 on.
    pub at: usize,
    /// What it returns.
    pub code: hipError_t,
    /// What else happens.
    pub mode: Mode,
}

/// What happens at the call that is planned to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// The call does nothing; later calls work.
    Once,
    /// The call does nothing, and nor does any call of any function after it, which return the same code.
    Sticky,
    /// The call does its work, and returns the code all the same; later calls work.
    Done,
    /// As [`Mode::Done`], but copies and fills do half of their bytes, and launches half of their blocks.
    Part,
    /// The call succeeds, though work that it gives to a stream is never done; the next call that waits or asks returns the code.
    Late,
    /// The call succeeds, and no work that is given from then on is ever done: a stream that is asked is never ready, and what
    /// waits for one would never return. Such calls are [counted](Met::blocked) and return an error.
    Hang,
    /// The process aborts.
    Abort,
    /// The call does nothing and says that it did.
    Silent,
    /// This call and all after it that give something back do their work, and return the code.
    Cleanup,
}

/// What calls have met since [`plan`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Met {
    /// The calls, in order. Asking for an error's words is none.
    pub calls: Vec<&'static str>,
    /// How many calls were made when the fault was met, itself included.
    pub fault_at: Option<usize>,
    /// How many calls were made when a planned code was first returned, itself included.
    pub told_at: Option<usize>,
    /// Calls that would have waited for ever.
    pub blocked: Vec<&'static str>,
    /// Things that were given out and for which no call asked to take them back, by the function that made them.
    pub held: BTreeMap<&'static str, usize>,
    /// Calls that gave back what was not there, or what was given back before.
    pub strange: Vec<&'static str>,
}

impl Met {
    /// Calls of each function.
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for call in &self.calls {
            *counts.entry(*call).or_default() += 1;
        }
        counts
    }
}

/// A copy to the host that a hung device has not done.
struct LateCopy {
    target: usize,
    bytes: usize,
}

struct State {
    inner: Option<HipApi>,
    fault: Option<Fault>,
    met: Met,
    counts: BTreeMap<&'static str, usize>,
    ledger: Ledger,
    /// The fault goes on.
    is_stuck: bool,
    is_hung: bool,
    /// What the next call that waits returns.
    late: Option<hipError_t>,
    late_copies: Vec<LateCopy>,
}

static STATE: Mutex<State> = Mutex::new(State {
    inner: None,
    fault: None,
    met: Met {
        calls: Vec::new(),
        fault_at: None,
        told_at: None,
        blocked: Vec::new(),
        held: BTreeMap::new(),
        strange: Vec::new(),
    },
    counts: BTreeMap::new(),
    ledger: Ledger::new(),
    is_stuck: false,
    is_hung: false,
    late: None,
    late_copies: Vec::new(),
});

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A table that counts calls and passes them on to `inner`, which is none of this function's, but for the one that is planned
/// to fail. There is one `inner` in a process: that of the last call.
pub fn around(inner: HipApi) -> HipApi {
    let api = HipApi {
        hip_get_device_properties: table::properties(&inner),
        graph: inner.graph.map(|_| table::graph_table()),
        library: inner.library.clone(),
        hip_get_error_name: inner.hip_get_error_name,
        hip_get_error_string: inner.hip_get_error_string,
        ..table::table()
    };
    state().inner = Some(inner);
    api
}

/// Plans what fails from now on, and counts calls anew. What was given out stays on the books.
pub fn plan(fault: Option<Fault>) {
    let mut state = state();
    state.fault = fault;
    state.met = Met::default();
    state.counts.clear();
    (state.is_stuck, state.is_hung, state.late) = (false, false, None);
    state.late_copies.clear();
}

/// Forgets what was given out.
pub fn write_off() {
    state().ledger = Ledger::new();
}

/// What calls have met since [`plan`].
pub fn met() -> Met {
    let state = state();
    Met { held: state.ledger.held(), ..state.met.clone() }
}

/// Does what a hung device may do at any time: the copies to the host that were under way end, with bytes that no result has.
/// Gives how many there were.
pub fn end_late_copies() -> usize {
    let copies = std::mem::take(&mut state().late_copies);
    for LateCopy { target, bytes } in &copies {
        let target = address_mut::<u8>(*target);
        // SAFETY: whoever asked for the copy vouched for so many bytes until the stream has been waited for, and no wait for a
        // hung stream ends well.
        unsafe { core::ptr::write_bytes(target, 0xEE, *bytes) };
    }
    copies.len()
}

/// Calls that give work to a stream and return.
const GIVING: [&str; 4] = ["hipModuleLaunchKernel", "hipMemcpyAsync", "hipMemsetAsync", "hipGraphLaunch"];

/// Calls that wait for a stream, beside those that give something back.
const WAITING: [&str; 1] = ["hipStreamSynchronize"];

const QUERY: &str = "hipStreamQuery";

/// What becomes of a call.
enum Verdict {
    Run,
    RunAndFail(hipError_t),
    RunPartAndFail(hipError_t),
    /// Return this at once.
    Answer(hipError_t),
    Abort,
}

/// What a judged function returns.
fn answer(call: &'static str, words: &[usize], run: &dyn Fn(&HipApi) -> hipError_t) -> hipError_t {
    let (verdict, inner) = {
        let mut state = state();
        let verdict = state.judge(call, words);
        (verdict, state.inner.clone())
    };
    // No table has these functions before `around` has given one.
    let Some(inner) = inner else { return hipError_t::hipErrorNotInitialized };
    let code = match verdict {
        Verdict::Run => run(&inner),
        Verdict::RunAndFail(code) => {
            run(&inner);
            code
        }
        Verdict::RunPartAndFail(code) => {
            run_part(&inner, call, words, run);
            code
        }
        Verdict::Answer(code) => code,
        Verdict::Abort => std::process::abort(),
    };
    let mut state = state();
    if state.fault.is_some_and(|fault| fault.code == code) {
        let made = state.met.calls.len();
        state.met.told_at.get_or_insert(made);
    }
    if let Err(strange) = state.ledger.enter(call, words, code) {
        state.met.strange.push(strange);
    }
    code
}

impl State {
    fn judge(&mut self, call: &'static str, words: &[usize]) -> Verdict {
        self.met.calls.push(call);
        let count = self.counts.entry(call).or_default();
        *count += 1;
        let count = *count;
        if let Some(fault) = self.fault.filter(|fault| fault.call == call && fault.at == count) {
            self.met.fault_at = Some(self.met.calls.len());
            return self.begin(fault, words);
        }
        if self.is_hung {
            return self.hung(call, words);
        }
        let asks = call == QUERY || WAITING.contains(&call) || ledger::gives_back(call);
        if let Some(code) = self.late.take_if(|_| asks) {
            return Verdict::Answer(code);
        }
        match self.fault.filter(|_| self.is_stuck) {
            Some(Fault { code, mode: Mode::Sticky, .. }) => Verdict::Answer(code),
            Some(Fault { code, mode: Mode::Cleanup, .. }) if ledger::gives_back(call) => {
                Verdict::RunAndFail(code)
            }
            _ => Verdict::Run,
        }
    }

    /// The call that the plan names.
    fn begin(&mut self, Fault { call, code, mode, .. }: Fault, words: &[usize]) -> Verdict {
        match mode {
            Mode::Once => Verdict::Answer(code),
            Mode::Sticky => {
                self.is_stuck = true;
                Verdict::Answer(code)
            }
            Mode::Done => Verdict::RunAndFail(code),
            Mode::Part => Verdict::RunPartAndFail(code),
            Mode::Late => {
                self.late = Some(code);
                if GIVING.contains(&call) { Verdict::Answer(hipError_t::hipSuccess) } else { Verdict::Run }
            }
            Mode::Hang => {
                self.is_hung = true;
                match GIVING.contains(&call) {
                    true => self.give(call, words),
                    false => self.hung(call, words),
                }
            }
            Mode::Abort => Verdict::Abort,
            Mode::Silent => Verdict::Answer(hipError_t::hipSuccess),
            Mode::Cleanup => {
                self.is_stuck = true;
                Verdict::RunAndFail(code)
            }
        }
    }

    /// A call to a device that does nothing any more.
    fn hung(&mut self, call: &'static str, words: &[usize]) -> Verdict {
        let crosses =
            call == "hipMemcpyAsync" && !matches!(kind(words), Some(hipMemcpyKind::hipMemcpyDeviceToDevice));
        if call == QUERY {
            return Verdict::Answer(hipError_t::hipErrorNotReady);
        }
        // What was recorded is no work under way.
        let waits_to_end = ledger::gives_back(call) && call != "hipGraphDestroy";
        if WAITING.contains(&call) || waits_to_end || crosses {
            self.met.blocked.push(call);
            return Verdict::Answer(hipError_t::hipErrorLaunchTimeOut);
        }
        if GIVING.contains(&call) { Verdict::Answer(hipError_t::hipSuccess) } else { Verdict::Run }
    }

    /// Work for a device that has just stopped.
    fn give(&mut self, call: &'static str, words: &[usize]) -> Verdict {
        if let (Some(hipMemcpyKind::hipMemcpyDeviceToHost), &[target, _, bytes, ..]) = (kind(words), words)
            && call == "hipMemcpyAsync"
        {
            self.late_copies.push(LateCopy { target, bytes });
        }
        Verdict::Answer(hipError_t::hipSuccess)
    }
}

/// The kind of a copy, among the words of its arguments.
fn kind(words: &[usize]) -> Option<hipMemcpyKind> {
    words.get(3).and_then(|&kind| u32::try_from(kind).ok()).map(hipMemcpyKind)
}

/// Half of a copy, of a fill and of a launch; the whole of any other call.
fn run_part(inner: &HipApi, call: &str, words: &[usize], run: &dyn Fn(&HipApi) -> hipError_t) {
    let number = |word: usize| u32::try_from(word).unwrap_or(0);
    match (call, words) {
        ("hipMemcpyAsync", &[target, source, bytes, kind, stream]) => {
            let (target, source, stream) = (address_mut(target), address(source), address_mut(stream));
            // SAFETY: the arguments of the call, and fewer bytes than its caller has vouched for.
            unsafe {
                (inner.hip_memcpy_async)(target, source, bytes / 2, hipMemcpyKind(number(kind)), stream)
            };
        }
        ("hipMemsetAsync", &[target, value, bytes, stream]) => {
            let (target, stream) = (address_mut(target), address_mut(stream));
            // SAFETY: as above.
            unsafe { (inner.hip_memset_async)(target, number(value).cast_signed(), bytes / 2, stream) };
        }
        (
            "hipModuleLaunchKernel",
            &[function, x, y, z, in_x, in_y, in_z, shared, stream, parameters, extra],
        ) => {
            if x < 2 {
                return;
            }
            let [x, y, z, in_x, in_y, in_z, shared] = [x / 2, y, z, in_x, in_y, in_z, shared].map(number);
            let (function, stream) = (address_mut(function), address_mut(stream));
            let (parameters, extra) = (address_mut(parameters), address_mut(extra));
            let launch = inner.hip_module_launch_kernel;
            // SAFETY: the arguments of the call, and fewer blocks than its caller has vouched for.
            unsafe { launch(function, x, y, z, in_x, in_y, in_z, shared, stream, parameters, extra) };
        }
        _ => {
            run(inner);
        }
    }
}

#[cfg(test)]
mod tests;
