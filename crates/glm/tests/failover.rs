//! A card that fails in the middle of an answer: a library around the emulated card, whose calls fail from one on.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

mod common;

use std::fmt::Write;
use std::path::PathBuf;

use common::{HIP_FUNCTIONS, Outcome, emulated_library, glm, hip_library, outcome};
use hip_emu_cdylib as _;
use tempfile::TempDir;

const QUESTION: [&str; 2] = ["demo", "What is RoPE?"];
const ANSWER: &str = "RoPE is rotary position embedding";

/// What the wrapper passes on beside the functions that each library has.
const OTHERS: [&str; 7] = [
    "hipGetDevicePropertiesR0600",
    "hipStreamBeginCapture",
    "hipStreamEndCapture",
    "hipGraphInstantiate",
    "hipGraphLaunch",
    "hipGraphExecDestroy",
    "hipGraphDestroy",
];

/// A library around the one at `REAL_HIP` that fails as `FAIL_CALL` and `FAIL_AT` say: from then on whatever is called returns 700,
/// as a card does after a fault. Every argument of HIP's functions is a number or a pointer, so one type is all of theirs.
fn wrapper(folder: &TempDir) -> PathBuf {
    let mut source = String::from(
        r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
typedef long any(long, long, long, long, long, long, long, long, long, long, long);
static any *real(const char *name) {
    static void *library;
    if (!library) library = dlopen(getenv("REAL_HIP"), RTLD_NOW | RTLD_LOCAL);
    return library ? (any *)dlsym(library, name) : 0;
}
static int is_lost(const char *name) {
    static int calls, lost;
    const char *call = getenv("FAIL_CALL");
    if (call && !strcmp(call, name) && ++calls >= atoi(getenv("FAIL_AT"))) lost = 1;
    return lost;
}
long hipGetErrorName(long code) { return real("hipGetErrorName")(code, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0); }
long hipGetErrorString(long code) { return real("hipGetErrorString")(code, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0); }
"#,
    );
    for function in HIP_FUNCTIONS.iter().chain(&OTHERS) {
        let (types, names) = (
            "long a, long b, long c, long d, long e, long f, long g, long h, long i, long j, long k",
            "a, b, c, d, e, f, g, h, i, j, k",
        );
        writeln!(source, "long {function}({types}) {{ return is_lost(\"{function}\") ? 700 : real(\"{function}\")({names}); }}").unwrap();
    }
    hip_library(folder, &source)
}

/// An answer on a device whose calls fail from call `at` of a function on.
fn answer(device: &str, call: &str, at: u32) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let mut command = glm();
    command.args(QUESTION).args(["--device", device]);
    command
        .env("HIP_FFI_LIB", wrapper(&folder))
        .env("REAL_HIP", emulated_library())
        .env("XDG_CACHE_HOME", folder.path());
    command.env("FAIL_CALL", call).env("FAIL_AT", at.to_string());
    outcome(command.output().unwrap())
}

#[test]
fn auto_ends_the_answer_on_the_cpu_and_says_so_once() {
    for (call, at) in [("hipGraphLaunch", 1), ("hipGraphLaunch", 4), ("hipGraphInstantiate", 1)] {
        let answer = answer("auto", call, at).ok();
        assert!(answer.stdout.contains(ANSWER), "{}", answer.stdout);
        assert_eq!(answer.stdout.matches("RoPE is").count(), 1, "{}", answer.stdout);
        assert_eq!(answer.stderr.matches("WARN").count(), 1, "{}", answer.stderr);
        let place =
            answer.stderr.lines().find(|line| line.starts_with("ran on cpu, not on a GPU: ")).unwrap();
        assert!(place.contains("failed after") && place.contains(&format!("{call} returned")), "{place}");
        assert!(place.contains("(700)"), "{place}");
    }
}

#[test]
fn auto_without_a_failure_stays_on_the_card() {
    let answer = answer("auto", "hipGraphLaunch", u32::MAX >> 1).ok();
    assert!(answer.stdout.contains(ANSWER) && answer.stderr.contains("ran on hip:0"), "{}", answer.stderr);
    assert!(!answer.stderr.contains("WARN"), "{}", answer.stderr);
}

#[test]
fn hip_fails_with_the_cause() {
    let answer = answer("hip", "hipGraphLaunch", 3);
    answer.refused(3, &["hipGraphLaunch returned", "(700)", "lost"]);
}
