//! What one device of a loaded library loses is lost for all of them. One test, because that is for the whole process.

use std::fs;
use std::process::Command;

use device_mem::{Device, DeviceChoice, MemError, any_is_lost};
use hip_ffi::{ErrorClass, HipApi, Search};

/// Each function notes its name in a file and succeeds, but for the one that tells the memory: it finds a fault.
fn source(notes: &str) -> String {
    let functions = [
        "hipInit",
        "hipRuntimeGetVersion",
        "hipDriverGetVersion",
        "hipGetLastError",
        "hipSetDevice",
        "hipDeviceGetAttribute",
        "hipMalloc",
        "hipFree",
        "hipMemcpyAsync",
        "hipMemsetAsync",
        "hipStreamCreateWithFlags",
        "hipStreamDestroy",
        "hipStreamSynchronize",
        "hipStreamQuery",
        "hipModuleLoadData",
        "hipModuleUnload",
        "hipModuleGetFunction",
        "hipModuleLaunchKernel",
        "hipGetDeviceProperties",
    ];
    let functions: String = functions
        .iter()
        .map(|name| format!("int {name}(void) {{ return note(\"{name}\", 0); }}\n"))
        .collect();
    format!(
        "#include <stdio.h>\n\
         static int note(const char *name, int code) {{\n\
         FILE *notes = fopen(\"{notes}\", \"a\"); if (notes) {{ fprintf(notes, \"%s\\n\", name); fclose(notes); }}\n\
         return code; }}\n\
         __attribute__((destructor)) static void unloaded(void) {{ note(\"unloaded\", 0); }}\n\
         const char *hipGetErrorName(int code) {{ return code ? \"hipErrorLaunchFailure\" : \"hipSuccess\"; }}\n\
         const char *hipGetErrorString(int code) {{ return hipGetErrorName(code); }}\n\
         int hipGetDeviceCount(int *count) {{ *count = 2; return note(\"hipGetDeviceCount\", 0); }}\n\
         int hipMemGetInfo(void *free, void *total) {{ return note(\"hipMemGetInfo\", 719); }}\n{functions}"
    )
}

#[test]
fn a_loss_ends_the_use_of_every_device_of_the_library() {
    let folder = tempfile::tempdir().unwrap();
    let [file, library, notes] = ["hip.c", "libamdhip64.so", "notes"].map(|name| folder.path().join(name));
    fs::write(&file, source(notes.to_str().unwrap())).unwrap();
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &file]).status();
    assert!(compiled.expect("this test needs a C compiler called cc").success());
    let noted = || fs::read_to_string(&notes).unwrap_or_default();

    let search = Search { file: Some(library), ..Search::default() };
    let (api, _) = HipApi::load(&search).unwrap();
    assert!(!any_is_lost());
    let error = Device::from_api(api.clone(), 0).unwrap_err();
    assert_eq!(error.class(), Some(ErrorClass::Lost), "{error:?}");
    assert!(any_is_lost() && noted().ends_with("hipMemGetInfo\n"), "{}", noted());

    let before = noted();
    let again = [
        Device::from_api(api.clone(), 1).unwrap_err(),
        Device::open(DeviceChoice::Hip { ordinal: 0 }).unwrap_err(),
    ];
    for error in &again {
        assert!(
            matches!(error, MemError::Lost { source, .. } if source.call == "hipMemGetInfo"),
            "{error:?}"
        );
    }
    assert!(matches!(Device::open(DeviceChoice::Auto).unwrap().device, Device::Cpu));
    drop(api);
    assert_eq!(noted(), before, "a call was made, or the library was unloaded");
}
