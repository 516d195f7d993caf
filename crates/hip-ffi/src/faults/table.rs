//! The table whose functions ask the plan before they run.

use core::ffi::{c_char, c_int, c_uint, c_void};

use super::answer;
use crate::api::{entries, graph_entries};
use crate::sys::*;
use crate::{GraphApi, HipApi, PropertiesFn};

/// What an argument says when it is a number or an address.
trait Word {
    fn word(self) -> usize;
}

impl<T> Word for *mut T {
    fn word(self) -> usize {
        self.expose_provenance()
    }
}

impl<T> Word for *const T {
    fn word(self) -> usize {
        self.expose_provenance()
    }
}

macro_rules! words {
    ($($type:ty: |$value:ident| $word:expr;)*) => {
        $(impl Word for $type {
            fn word(self) -> usize {
                let $value = self;
                $word
            }
        })*
    };
}

words! {
    usize: |value| value;
    c_int: |value| value.cast_unsigned() as usize;
    c_uint: |value| value as usize;
    hipMemcpyKind: |value| value.0 as usize;
    hipDeviceAttribute_t: |value| value.0 as usize;
    hipStreamCaptureMode: |value| value.0 as usize;
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
            answer(stringify!($symbol), &[$($name.word()),*], &run)
        }
    };
    ($field:ident $symbol:ident [$($type:ty),*] $inner:expr) => {
        judged!(@named [] [a b c d e f g h i j k] [$($type),*] [$field $symbol $inner]);
    };
}

/// The functions of the table, but for those that put errors into words.
macro_rules! functions {
    (@each [$($fields:ident)*]) => {
        pub(super) fn table() -> HipApi {
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

        pub(super) fn graph_table() -> GraphApi {
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

/// The function that fills the properties, in the layout of `inner`.
pub(super) fn properties(inner: &HipApi) -> PropertiesFn {
    match inner.hip_get_device_properties {
        PropertiesFn::Legacy(_) => PropertiesFn::Legacy(properties_legacy),
        PropertiesFn::R0600(_) => PropertiesFn::R0600(properties_r0600),
    }
}

/// Stands where `around` puts the other table's words.
unsafe extern "C" fn no_words(_: hipError_t) -> *const c_char {
    core::ptr::null()
}
