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

use core::ffi::{c_char, c_int, c_uint, c_void};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::api::{entries, graph_entries};
use crate::sys::*;
use crate::{GraphApi, HipApi, PropertiesFn};

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

/// What happens beside the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// The call does nothing; later calls work.
    Once,
    /// The call does nothing, and nor does any call of any function after it, which return the same code.
    Sticky,
    /// The call does its work, and returns the code all the same; later calls work.
    Done,
}

struct State {
    inner: Option<HipApi>,
    fault: Option<Fault>,
    counts: BTreeMap<&'static str, usize>,
    is_stuck: bool,
}

static STATE: Mutex<State> =
    Mutex::new(State { inner: None, fault: None, counts: BTreeMap::new(), is_stuck: false });

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A table that counts calls and passes them on to `inner`, which is none of this function's, but for the one that is planned
/// to fail. There is one `inner` in a process: that of the last call.
pub fn around(inner: HipApi) -> HipApi {
    let hip_get_device_properties = match inner.hip_get_device_properties {
        PropertiesFn::Legacy(_) => PropertiesFn::Legacy(properties_legacy),
        PropertiesFn::R0600(_) => PropertiesFn::R0600(properties_r0600),
    };
    let (graph, library) = (inner.graph.map(|_| graph_table()), inner.library.clone());
    let names = (inner.hip_get_error_name, inner.hip_get_error_string);
    state().inner = Some(inner);
    HipApi {
        hip_get_device_properties,
        graph,
        library,
        hip_get_error_name: names.0,
        hip_get_error_string: names.1,
        ..table()
    }
}

/// Plans what fails from now on, and counts calls anew.
pub fn plan(fault: Option<Fault>) {
    let mut state = state();
    state.fault = fault;
    state.counts.clear();
    state.is_stuck = false;
}

/// Calls of each function since [`plan`]. Asking for an error's words is none.
pub fn counts() -> BTreeMap<&'static str, usize> {
    state().counts.clone()
}

/// What becomes of a call.
enum Verdict {
    Run(HipApi),
    RunAndFail(HipApi, hipError_t),
    Fail(hipError_t),
}

fn judge(call: &'static str) -> Verdict {
    let mut state = state();
    let count = state.counts.entry(call).or_default();
    *count += 1;
    let count = *count;
    let is_planned = |fault: &Fault| fault.call == call && fault.at == count;
    let fault = state.fault.filter(|fault| state.is_stuck || is_planned(fault));
    state.is_stuck |= fault.is_some_and(|fault| fault.mode == Mode::Sticky);
    match (fault, state.inner.clone()) {
        (Some(Fault { code, mode: Mode::Done, .. }), Some(inner)) => Verdict::RunAndFail(inner, code),
        (Some(Fault { code, .. }), _) => Verdict::Fail(code),
        (None, Some(inner)) => Verdict::Run(inner),
        // No table has these functions before `around` has given one.
        (None, None) => Verdict::Fail(hipError_t::hipErrorNotInitialized),
    }
}

/// A function that is judged before it runs.
macro_rules! judged {
    // Names for the arguments, one by one.
    (@named [$($name:ident: $type:ty,)*] [$next:ident $($names:ident)*] [$head:ty $(, $tail:ty)*] $function:tt) => {
        judged!(@named [$($name: $type,)* $next: $head,] [$($names)*] [$($tail),*] $function);
    };
    (@named [$($name:ident: $type:ty,)*] [$($names:ident)*] [] [$field:ident $symbol:ident $inner:expr]) => {
        unsafe extern "C" fn $field($($name: $type),*) -> hipError_t {
            let run = |api: &HipApi| match $inner(api) {
                // SAFETY: the caller keeps the contract of the function, whose arguments these are.
                Some(function) => unsafe { function($($name),*) },
                None => hipError_t::hipErrorNotSupported,
            };
            match judge(stringify!($symbol)) {
                Verdict::Run(api) => run(&api),
                Verdict::RunAndFail(api, code) => {
                    run(&api);
                    code
                }
                Verdict::Fail(code) => code,
            }
        }
    };
    ($field:ident $symbol:ident [$($type:ty),*] $inner:expr) => {
        judged!(@named [] [a b c d e f g h i j k] [$($type),*] [$field $symbol $inner]);
    };
}

/// The functions of the table, but for those that put errors into words.
macro_rules! functions {
    (@each [$($fields:ident)*]) => {
        fn table() -> HipApi {
            HipApi {
                $($fields,)*
                hip_get_error_name: no_words,
                hip_get_error_string: no_words,
                hip_get_device_properties: PropertiesFn::R0600(properties_r0600),
                graph: None,
                library: None,
            }
        }
    };
    (@each [$($fields:ident)*] $field:ident: $symbol:ident($($type:ty),* $(,)?) -> hipError_t; $($rest:tt)*) => {
        judged!($field $symbol [$($type),*] |api: &HipApi| Some(api.$field));
        functions!(@each [$($fields)* $field] $($rest)*);
    };
    (@each $fields:tt $field:ident: $symbol:ident($($type:ty),*) -> *const c_char; $($rest:tt)*) => {
        functions!(@each $fields $($rest)*);
    };
    ($($entries:tt)*) => {
        functions!(@each [] $($entries)*);
    };
}

/// The functions for graphs.
macro_rules! graph_functions {
    ($($field:ident: $symbol:ident($($type:ty),* $(,)?) -> hipError_t;)*) => {
        $(judged!($field $symbol [$($type),*] |api: &HipApi| api.graph.map(|graph| graph.$field));)*

        fn graph_table() -> GraphApi {
            GraphApi { $($field),* }
        }
    };
}

entries!(functions);
graph_entries!(graph_functions);

judged!(properties_legacy hipGetDeviceProperties [*mut hipDeviceProp_t, c_int] |api: &HipApi| {
    match api.hip_get_device_properties {
        PropertiesFn::Legacy(function) => Some(function),
        PropertiesFn::R0600(_) => None,
    }
});
judged!(properties_r0600 hipGetDeviceProperties [*mut hipDeviceProp_tR0600, c_int] |api: &HipApi| {
    match api.hip_get_device_properties {
        PropertiesFn::R0600(function) => Some(function),
        PropertiesFn::Legacy(_) => None,
    }
});

/// Stands where `around` puts the other table's words.
unsafe extern "C" fn no_words(_: hipError_t) -> *const c_char {
    core::ptr::null()
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" fn counted(devices: *mut c_int) -> hipError_t {
        // SAFETY: the test gives a number's address.
        unsafe { *devices = 7 };
        hipError_t::hipSuccess
    }

    unsafe extern "C" fn started(_: c_uint) -> hipError_t {
        hipError_t::hipSuccess
    }

    unsafe extern "C" fn nothing_pending() -> hipError_t {
        hipError_t::hipSuccess
    }

    unsafe extern "C" fn words(_: hipError_t) -> *const c_char {
        c"words".as_ptr()
    }

    /// One test, because the plan is the process's.
    #[test]
    fn calls_fail_as_planned() {
        let inner = HipApi {
            hip_init: started,
            hip_get_device_count: counted,
            hip_get_last_error: nothing_pending,
            hip_get_error_name: words,
            hip_get_error_string: words,
            ..table()
        };
        let api = around(inner);
        let count = || {
            let mut devices = 0;
            // SAFETY: the number lives longer than the call.
            let code = unsafe { (api.hip_get_device_count)(&raw mut devices) };
            (code.0, devices)
        };
        let code = hipError_t::hipErrorOutOfMemory;
        let fault = |mode| Fault { call: "hipGetDeviceCount", at: 2, code, mode };
        for (mode, second, third) in
            [(Mode::Once, (2, 0), (0, 7)), (Mode::Sticky, (2, 0), (2, 0)), (Mode::Done, (2, 7), (0, 7))]
        {
            plan(Some(fault(mode)));
            assert_eq!([count(), count(), count()], [(0, 7), second, third], "{mode:?}");
            assert_eq!(counts(), BTreeMap::from([("hipGetDeviceCount", 3)]));
            // SAFETY: the function takes no arguments.
            let other = unsafe { (api.hip_get_last_error)() };
            assert_eq!(other == code, mode == Mode::Sticky, "{mode:?}");
        }
        plan(None);
        assert_eq!([count(), count()], [(0, 7); 2]);
        assert_eq!(crate::result::device_count(&api), Ok(7));
    }
}
