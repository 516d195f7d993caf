//! Every call of HIP in the sources of the crates, and where the sweep meets it.

/// A part of what a program does with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// The devices are looked at, each opened once.
    Doctor,
    /// The device is opened.
    Open,
    /// Buffers are made, copied, read and dropped.
    Memory,
    /// The model is loaded.
    Load,
    /// The prompt and the first token.
    Prefill,
    /// The tokens after it: launch by launch, recorded, replayed.
    Decode,
    /// Everything is given back.
    Teardown,
}

/// Calls of one function of `hip_ffi::result` in one file.
pub(crate) struct Site {
    pub(crate) file: &'static str,
    /// The function of `hip_ffi::result`.
    pub(crate) function: &'static str,
    /// How often the file names it.
    pub(crate) times: usize,
    /// Where a run without a fault makes the call, or else why it does not.
    pub(crate) met: Result<Phase, &'static str>,
}

const fn site(file: &'static str, function: &'static str, times: usize, phase: Phase) -> Site {
    Site { file, function, times, met: Ok(phase) }
}

/// A call that is forgotten here fails `cargo test -p workspace-tests --test call_sites`; one that a run does not make where it
/// is said to fails the sweep.
pub(crate) const SITES: &[Site] = &[
    site("device-mem/src/doctor.rs", "device_count", 1, Phase::Doctor),
    Site {
        file: "device-mem/src/doctor.rs",
        function: "runtime_version",
        times: 1,
        met: Err("of a loaded library only, and an error of it is shown in place of the version"),
    },
    Site {
        file: "device-mem/src/doctor.rs",
        function: "driver_version",
        times: 1,
        met: Err("of a loaded library only, and an error of it is shown in place of the version"),
    },
    site("device-mem/src/graph.rs", "graph_destroy", 2, Phase::Decode),
    site("device-mem/src/graph.rs", "graph_exec_destroy", 1, Phase::Decode),
    site("device-mem/src/graph.rs", "graph_instantiate", 1, Phase::Decode),
    site("device-mem/src/graph.rs", "graph_launch", 1, Phase::Decode),
    site("device-mem/src/graph.rs", "stream_begin_capture", 1, Phase::Decode),
    site("device-mem/src/graph.rs", "stream_end_capture", 1, Phase::Decode),
    site("device-mem/src/hip_device.rs", "device_attribute", 1, Phase::Open),
    site("device-mem/src/hip_device.rs", "device_count", 1, Phase::Open),
    site("device-mem/src/hip_device.rs", "device_names", 1, Phase::Open),
    site("device-mem/src/hip_device.rs", "memory_info", 2, Phase::Open),
    site("device-mem/src/hip_device.rs", "module_get_function", 1, Phase::Load),
    site("device-mem/src/hip_device.rs", "module_load_data", 1, Phase::Load),
    site("device-mem/src/hip_device.rs", "module_unload", 1, Phase::Teardown),
    site("device-mem/src/hip_device.rs", "set_device", 3, Phase::Open),
    site("device-mem/src/hip_device.rs", "stream_create", 1, Phase::Open),
    site("device-mem/src/hip_device.rs", "stream_destroy", 1, Phase::Teardown),
    Site {
        file: "device-mem/src/hip_device.rs",
        function: "take_last_error",
        times: 1,
        met: Err("after an error only, and what it says is known by then"),
    },
    site("device-mem/src/hip_kernel.rs", "module_launch_kernel", 1, Phase::Prefill),
    site("device-mem/src/hip_memory.rs", "free", 1, Phase::Teardown),
    site("device-mem/src/hip_memory.rs", "malloc", 1, Phase::Load),
    site("device-mem/src/hip_memory.rs", "memcpy_async", 3, Phase::Memory),
    site("device-mem/src/hip_memory.rs", "memset_async", 1, Phase::Memory),
    site("device-mem/src/wait.rs", "stream_query", 2, Phase::Memory),
    site("device-mem/src/wait.rs", "stream_synchronize", 1, Phase::Memory),
];

/// The functions of C that a function of `hip_ffi::result` calls, as its source says.
pub(crate) fn c_functions(function: &str) -> &'static [&'static str] {
    match function {
        "device_attribute" => &["hipDeviceGetAttribute"],
        "device_count" => &["hipInit", "hipGetDeviceCount"],
        "device_names" => &["hipGetDeviceProperties"],
        "free" => &["hipFree"],
        "graph_destroy" => &["hipGraphDestroy"],
        "graph_exec_destroy" => &["hipGraphExecDestroy"],
        "graph_instantiate" => &["hipGraphInstantiate"],
        "graph_launch" => &["hipGraphLaunch"],
        "malloc" => &["hipMalloc"],
        "memcpy_async" => &["hipMemcpyAsync"],
        "memory_info" => &["hipMemGetInfo"],
        "memset_async" => &["hipMemsetAsync"],
        "module_get_function" => &["hipModuleGetFunction"],
        "module_launch_kernel" => &["hipModuleLaunchKernel"],
        "module_load_data" => &["hipModuleLoadData"],
        "module_unload" => &["hipModuleUnload"],
        "driver_version" => &["hipDriverGetVersion"],
        "runtime_version" => &["hipRuntimeGetVersion"],
        "set_device" => &["hipSetDevice"],
        "stream_begin_capture" => &["hipStreamBeginCapture"],
        "stream_create" => &["hipStreamCreateWithFlags"],
        "stream_destroy" => &["hipStreamDestroy"],
        "stream_end_capture" => &["hipStreamEndCapture"],
        "stream_query" => &["hipStreamQuery"],
        "stream_synchronize" => &["hipStreamSynchronize"],
        "take_last_error" => &["hipGetLastError"],
        _ => &[],
    }
}
