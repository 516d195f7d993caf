//! A library around the emulated card's that fails as the environment of its process says.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use hip_emu_cdylib as _;
use tempfile::TempDir;

use super::{HIP_FUNCTIONS, emulated_library, glm, hip_library};

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

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
typedef long any(long, long, long, long, long, long, long, long, long, long, long);
static any *real(const char *name) {
    static void *library;
    if (!library) library = dlopen(getenv("REAL_HIP"), RTLD_NOW | RTLD_LOCAL);
    return library ? (any *)dlsym(library, name) : 0;
}
static int is(const char *variable, const char *value) {
    const char *set = getenv(variable);
    return set && !strcmp(set, value);
}
static void tell(const char *variable, const char *text) {
    const char *path = getenv(variable);
    FILE *file = path ? fopen(path, "a") : 0;
    if (file) { fputs(text, file); fputs("\n", file); fclose(file); }
}
/* HIP's own teardown. */
__attribute__((destructor)) static void unloaded(void) { tell("TELL_TEARDOWN", "teardown"); }
static void never(const char *name) {
    tell("TELL_BLOCKED", name);
    for (;;) pause();
}
/* Whether this process is the one that fails: the first that comes to it, where ONCE names a file. */
static int is_ours(void) {
    const char *once = getenv("ONCE");
    return !once || open(once, O_CREAT | O_EXCL, 0600) >= 0;
}
static int failed;
/* From call FAIL_AT of FAIL_CALL on. */
static int fails(const char *name) {
    static int calls;
    tell("TELL_CALLS", name);
    const char *call = getenv("FAIL_CALL");
    if (failed || !call || strcmp(call, name) || ++calls != atoi(getenv("FAIL_AT")) || !is_ours()) return failed;
    failed = 1;
    if (is("FAIL_MODE", "abort")) abort();
    if (is("FAIL_MODE", "stuck")) never(name);
    return 1;
}
/* After a failure: a card that is lost, or one that never gets ready, on which what waits never returns. */
static long after(const char *name) {
    if (!is("FAIL_MODE", "hang")) return 700;
    if (!strcmp(name, "hipStreamQuery")) return 600;
    if (strstr(name, "Synchronize") || strstr(name, "Free") || strstr(name, "Destroy") || strstr(name, "Unload")) never(name);
    return 0;
}
long hipGetErrorName(long code) { return real("hipGetErrorName")(code, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0); }
long hipGetErrorString(long code) { return real("hipGetErrorString")(code, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0); }
"#;

/// A library around the one at `REAL_HIP` that fails at call `FAIL_AT` of `FAIL_CALL`. `FAIL_MODE` `lost`: from then on whatever is
/// called returns 700, as a card does after a fault; `hang`: the card never gets ready; `stuck`: the call never returns; `abort`.
/// Every argument of HIP's functions is a number or a pointer, so one type is all of theirs.
pub(crate) fn wrapper(folder: &TempDir) -> PathBuf {
    let mut source = String::from(SOURCE);
    for function in HIP_FUNCTIONS.iter().chain(&OTHERS) {
        let (types, names) = (
            "long a, long b, long c, long d, long e, long f, long g, long h, long i, long j, long k",
            "a, b, c, d, e, f, g, h, i, j, k",
        );
        writeln!(source, "long {function}({types}) {{ return fails(\"{function}\") ? after(\"{function}\") : real(\"{function}\")({names}); }}").unwrap();
    }
    hip_library(folder, &source)
}

/// The command with such a library. Kernels are checked before they are first used: `cache` is where that is remembered.
pub(crate) fn glm_with(library: &Path, cache: &Path) -> Command {
    let mut command = glm();
    command.env("HIP_FFI_LIB", library).env("REAL_HIP", emulated_library()).env("XDG_CACHE_HOME", cache);
    command
}
