//! HIP's NVIDIA platform against a driver that a C compiler makes from `fake.c`: what is found, that each call arrives where
//! CUDA expects it, and what its errors become.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

use std::collections::BTreeSet;
use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{ptr, thread};

use hip_ffi::sys::{hipDeviceAttribute_t, hipError_t, hipMemcpyKind};
use hip_ffi::{ErrorClass, HipApi, LoadError, Search, cuda, result};
use tempfile::TempDir;

/// A folder with `fake.c`, compiled with `flags`, and the search that finds it.
fn library(flags: &[&str]) -> (TempDir, Search) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("libcuda.so.1");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake_cuda/fake.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&file).arg(source).args(flags);
    let status =
        compiler.status().unwrap_or_else(|error| panic!("this test needs a C compiler, cc: {error}"));
    assert!(status.success(), "{compiler:?}");
    (folder, Search { file: Some(file), ..Search::default() })
}

/// The driver of this process.
fn api() -> &'static HipApi {
    static LOADED: OnceLock<(TempDir, HipApi)> = OnceLock::new();
    let (_, api) = LOADED.get_or_init(|| {
        let (folder, search) = library(&[]);
        let (api, found) = cuda::load(&search).unwrap();
        assert_eq!(Some(found.library), search.file);
        (folder, api)
    });
    api
}

#[test]
fn each_missing_function_is_named_before_a_driver_is_taken() {
    let functions: BTreeSet<&str> = include_str!("fake.c")
        .lines()
        .filter_map(|line| line.strip_prefix("int cu")?.split('(').next())
        .collect();
    assert_eq!(functions.len(), 31, "the functions of the driver that are called");
    // A process has one driver, so that each is tried in a process of its own.
    let tried = functions.into_iter().map(|function| {
        let symbol = format!("cu{function}");
        let (_folder, search) = library(&[&format!("-D{symbol}=absent")]);
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_driver_without_the_function_that_is_named_is_refused", "--nocapture"])
            .env("FAKE_CUDA", search.file.unwrap())
            .env("FAKE_CUDA_LACKS", &symbol)
            .status();
        (symbol, status.unwrap())
    });
    for (symbol, status) in tried {
        assert!(status.success(), "{symbol}");
    }
}

#[test]
fn a_driver_without_the_function_that_is_named_is_refused() {
    // Without the variables this is the case of a driver that lacks one of them.
    let named = std::env::var_os("FAKE_CUDA").map(PathBuf::from);
    let is_alone = named.is_some();
    let lacks = std::env::var("FAKE_CUDA_LACKS").unwrap_or_else(|_| "cuGraphLaunch".to_owned());
    let (_folder, search) = match named {
        Some(file) => (None, Search { file: Some(file), ..Search::default() }),
        None => {
            let (folder, search) = library(&["-DcuGraphLaunch=absent"]);
            (Some(folder), search)
        }
    };
    match cuda::load(&search) {
        Err(LoadError::OldDriver { library, symbol }) => {
            assert_eq!((Some(library), symbol), (search.file, lacks.as_str()));
        }
        // Another test of this process was first: its driver is what there is.
        Ok((_, found)) => assert!(!is_alone && Some(found.library) != search.file, "{lacks} was not missed"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_second_load_gives_the_first_driver() {
    let first = api();
    let nowhere = Search { file: Some("/not/here/libcuda.so.1".into()), ..Search::default() };
    let (second, found) = cuda::load(&nowhere).unwrap();
    assert!(found.library.ends_with("libcuda.so.1") && found.library.exists());
    assert_eq!(result::driver_version(first), result::driver_version(&second));
}

#[test]
fn devices_say_what_they_are() {
    let api = api();
    assert_eq!(result::runtime_version(api).unwrap(), 13_000);
    assert_eq!(result::device_count(api).unwrap(), 2);
    let names = result::device_names(api, 1).unwrap();
    assert_eq!((names.name.as_str(), names.arch.as_str()), ("card 41", "sm_90"));
    for (attribute, number) in [
        (hipDeviceAttribute_t::hipDeviceAttributeWarpSize, 10),
        (hipDeviceAttribute_t::hipDeviceAttributeMaxThreadsPerBlock, 1),
        (hipDeviceAttribute_t::hipDeviceAttributeIntegrated, 18),
        (hipDeviceAttribute_t::hipDeviceAttributePciBusId, 33),
        (hipDeviceAttribute_t::hipDeviceAttributePciDeviceId, 34),
    ] {
        assert_eq!(result::device_attribute(api, attribute, 1).unwrap(), number * 100 + 41);
    }
    let unknown = result::device_attribute(api, hipDeviceAttribute_t::hipDeviceAttributeAsicRevision, 0);
    assert_eq!(unknown.unwrap_err().code, hipError_t::hipErrorInvalidValue);
    let absent = result::device_names(api, 2).unwrap_err();
    assert_eq!((absent.code, absent.class()), (hipError_t::hipErrorInvalidDevice, ErrorClass::Unavailable));
    assert_eq!(
        absent.to_string(),
        "hipGetDevicePropertiesR0600 returned hipErrorInvalidDevice (101): invalid device ordinal"
    );
}

#[test]
fn a_device_is_bound_to_a_thread_by_its_one_context() {
    let unbound = thread::spawn(|| result::malloc(api(), NonZeroUsize::MIN).unwrap_err()).join().unwrap();
    assert_eq!(
        (unbound.code, unbound.name.as_str()),
        (hipError_t::hipErrorInvalidContext, "hipErrorInvalidContext")
    );
    let bind = || {
        result::set_device(api(), 1).unwrap();
        result::set_device(api(), 1).unwrap();
        result::memory_info(api()).unwrap()
    };
    for _ in 0..2 {
        assert_eq!(thread::spawn(bind).join().unwrap(), (1, 1), "retained once, and the second device's");
    }
    let error = result::set_device(api(), 2).unwrap_err();
    assert_eq!(result::take_last_error(api()).unwrap_err().code, error.code);
    result::take_last_error(api()).unwrap();
}

#[test]
fn copies_and_fills_go_in_their_directions() {
    let api = api();
    result::set_device(api, 0).unwrap();
    let stream = result::stream_create(api).unwrap();
    let memory = result::malloc(api, NonZeroUsize::new(4).unwrap()).unwrap();
    let (mut host, source) = ([0_u8; 4], *b"abcd");
    let kinds = [
        (hipMemcpyKind::hipMemcpyHostToDevice, b"abcu"),
        (hipMemcpyKind::hipMemcpyDeviceToHost, b"abcd"),
        (hipMemcpyKind::hipMemcpyDeviceToDevice, b"abco"),
        (hipMemcpyKind::hipMemcpyDefault, b"abca"),
    ];
    for (kind, expected) in kinds {
        let to: *mut c_void = host.as_mut_ptr().cast();
        // SAFETY: both ends hold four bytes, and this driver has copied when it returns.
        unsafe { result::memcpy_async(api, to, source.as_ptr().cast(), 4, kind, stream) }.unwrap();
        assert_eq!(&host, expected, "{kind:?}");
    }
    let from = source.as_ptr().cast();
    // SAFETY: nothing is copied.
    let unknown = unsafe { result::memcpy_async(api, memory, from, 4, hipMemcpyKind(9), stream) };
    assert_eq!(unknown.unwrap_err().code, hipError_t::hipErrorInvalidValue);
    // SAFETY: the memory holds four bytes; the stream is live.
    unsafe { result::memset_async(api, memory, 0xfe, 4, stream) }.unwrap();
    let (back, kind) = (host.as_mut_ptr().cast(), hipMemcpyKind::hipMemcpyDeviceToHost);
    // SAFETY: both ends hold four bytes.
    unsafe { result::memcpy_async(api, back, memory, 4, kind, stream) }.unwrap();
    assert_eq!(host, [0xfe, 0xfe, 0xfe, b'd']);
    // SAFETY: it is not used afterwards.
    unsafe { result::free(api, memory) }.unwrap();
    // SAFETY: freeing nothing is nothing.
    unsafe { result::free(api, ptr::null_mut()) }.unwrap();
    // SAFETY: the stream is live.
    let queries =
        [unsafe { result::stream_query(api, stream) }, unsafe { result::stream_query(api, stream) }];
    assert_eq!(queries, [Ok(false), Ok(true)]);
    // SAFETY: it is not used afterwards.
    unsafe { result::stream_destroy(api, stream) }.unwrap();
}

#[test]
fn a_kernel_is_loaded_found_and_launched() {
    let api = api();
    let stream = result::stream_create(api).unwrap();
    // SAFETY: a NUL ends the text.
    let refused = unsafe { result::module_load_data(api, c".version 9.9".as_ptr().cast()) }.unwrap_err();
    assert_eq!((refused.code, refused.class()), (hipError_t::hipErrorNoBinaryForGpu, ErrorClass::Refused));
    assert!(refused.to_string().ends_with("unsupported toolchain."), "{refused}");
    // SAFETY: as above.
    let module = unsafe { result::module_load_data(api, c".version 7.0".as_ptr().cast()) }.unwrap();
    // SAFETY: the module is live.
    let absent = unsafe { result::module_get_function(api, module, c"thrice") };
    assert_eq!(absent.unwrap_err().code, hipError_t::hipErrorNotFound);
    // SAFETY: the module is live.
    let function = unsafe { result::module_get_function(api, module, c"twice") }.unwrap();

    let mut doubled = 0_f32;
    let (mut target, mut value) = (ptr::from_mut(&mut doubled), 21_f32);
    let mut parameters: [*mut c_void; 2] =
        [ptr::from_mut(&mut target).cast(), ptr::from_mut(&mut value).cast()];
    let launch = |parameters: *mut *mut c_void, extra: *mut *mut c_void| {
        // SAFETY: the arguments are those of the kernel, and `target` is a float.
        unsafe { (api.hip_module_launch_kernel)(function, 1, 2, 3, 4, 5, 6, 7, stream, parameters, extra) }
    };
    assert_eq!(launch(parameters.as_mut_ptr(), ptr::null_mut()), hipError_t::hipSuccess);
    assert_eq!(doubled, 42.0);

    // The arguments as one buffer.
    let mut buffer = [0_u8; 12];
    buffer[..8].copy_from_slice(&ptr::from_mut(&mut doubled).expose_provenance().to_ne_bytes());
    buffer[8..].copy_from_slice(&8_f32.to_ne_bytes());
    let mut bytes = buffer.len();
    let key = ptr::without_provenance_mut::<c_void>;
    let (at, size) = (buffer.as_mut_ptr().cast(), ptr::from_mut(&mut bytes).cast());
    let mut extra = [key(1), at, key(2), size, key(3)];
    assert_eq!(launch(ptr::null_mut(), extra.as_mut_ptr()), hipError_t::hipSuccess);
    assert_eq!(doubled, 16.0);
    extra[2] = key(4);
    assert_eq!(launch(ptr::null_mut(), extra.as_mut_ptr()), hipError_t::hipErrorInvalidValue);

    // SAFETY: it is not used afterwards.
    unsafe { result::module_unload(api, module) }.unwrap();
    // SAFETY: the stream is live.
    unsafe { result::stream_synchronize(api, stream) }.unwrap();
}

#[test]
fn graphs_are_recorded_and_launched() {
    let (api, graph) = (api(), api().graph.unwrap());
    let stream = result::stream_create(api).unwrap();
    // SAFETY: the stream is live, and this driver records nothing.
    unsafe { result::stream_begin_capture(api, &graph, stream) }.unwrap();
    // SAFETY: as above.
    let recorded = unsafe { result::stream_end_capture(api, &graph, stream) }.unwrap();
    // SAFETY: the graph is live.
    let ready = unsafe { result::graph_instantiate(api, &graph, recorded) }.unwrap();
    // SAFETY: both are live, and there is nothing to do.
    unsafe { result::graph_launch(api, &graph, ready, stream) }.unwrap();
    // SAFETY: it is not used afterwards.
    unsafe { result::graph_exec_destroy(api, &graph, ready) }.unwrap();
    // SAFETY: it is not used afterwards.
    unsafe { result::graph_destroy(api, &graph, recorded) }.unwrap();
}
