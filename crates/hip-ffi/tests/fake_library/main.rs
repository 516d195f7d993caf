//! The loader and the Result layer against libraries that a C compiler makes from `fake.c`: what is found, what is said
//! when it is not, and that arguments arrive where C expects them.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

use std::ffi::c_void;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr;

use hip_ffi::sys::{hipDeviceAttribute_t, hipError_t, hipMemcpyKind};
use hip_ffi::{ErrorClass, HipApi, HipError, LoadError, PropertiesFn, Search, result};
use tempfile::TempDir;

/// No name that the system's loader could find.
const NAME: &str = "libamdhip64_fake.so";

/// A ROCm root whose library is `fake.c`, compiled with `flags`.
fn root(flags: &[&str]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("lib")).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake_library/fake.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(library(&root)).arg(source).args(flags);
    let status =
        compiler.status().unwrap_or_else(|error| panic!("this test needs a C compiler, cc: {error}"));
    assert!(status.success(), "{compiler:?}");
    root
}

fn library(root: &TempDir) -> PathBuf {
    root.path().join("lib").join(NAME)
}

/// Looks in `roots` only.
fn search(roots: &[&TempDir]) -> Search {
    let roots = roots.iter().map(|root| root.path().to_owned()).collect();
    Search { file: None, roots, names: vec![NAME.into()], last_roots: Vec::new() }
}

fn load(root: &TempDir) -> HipApi {
    HipApi::load(&search(&[root])).unwrap().0
}

#[test]
fn a_library_of_hip_5_has_the_old_layout() {
    let api = load(&root(&[]));
    assert!(matches!(api.hip_get_device_properties, PropertiesFn::Legacy(_)));
    let names = result::device_names(&api, 0).unwrap();
    assert_eq!((names.name.as_str(), names.arch.as_str()), ("old card", "gfx90a:sramecc+:xnack-"));
}

#[test]
fn a_library_of_hip_6_has_both_and_the_new_layout_is_taken() {
    let api = load(&root(&["-DR0600"]));
    assert!(matches!(api.hip_get_device_properties, PropertiesFn::R0600(_)));
    let names = result::device_names(&api, 0).unwrap();
    assert_eq!((names.name.as_str(), names.arch.as_str()), ("new card", "gfx1100"));
    let error = result::device_names(&api, 1).unwrap_err();
    assert_eq!((error.call, error.code), ("hipGetDevicePropertiesR0600", hipError_t::hipErrorInvalidValue));
}

#[test]
fn the_new_layout_is_enough() {
    let api = load(&root(&["-DR0600", "-DhipGetDeviceProperties=absent"]));
    assert_eq!(result::device_names(&api, 0).unwrap().arch, "gfx1100");
}

#[test]
fn each_missing_function_is_named() {
    let source = include_str!("fake.c");
    let mut tried = 0;
    for line in
        source.lines().filter(|line| line.starts_with("int hip") || line.starts_with("const char *hip"))
    {
        let symbol =
            line.split('(').next().unwrap().trim_start_matches("const char *").trim_start_matches("int ");
        if symbol.ends_with("R0600") || OPTIONAL.contains(&symbol) {
            continue;
        }
        let root = root(&[&format!("-D{symbol}=absent")]);
        let error = HipApi::load(&search(&[&root])).unwrap_err();
        let LoadError::MissingSymbol { library: found, symbol: missing } = &error else { panic!("{error}") };
        assert_eq!((found, *missing), (&library(&root), symbol));
        assert!(error.to_string().contains(&format!("{NAME} lacks {symbol}")), "{error}");
        tried += 1;
    }
    assert_eq!(tried, 23, "the functions of the table");
}

/// What a library may lack.
const OPTIONAL: [&str; 6] = [
    "hipStreamBeginCapture",
    "hipStreamEndCapture",
    "hipGraphInstantiate",
    "hipGraphLaunch",
    "hipGraphExecDestroy",
    "hipGraphDestroy",
];

#[test]
fn a_library_without_graphs_is_used_without_them() {
    for symbol in OPTIONAL {
        let api = load(&root(&[&format!("-D{symbol}=absent")]));
        assert!(api.graph.is_none(), "{symbol}");
        assert_eq!(result::device_count(&api), Ok(1));
    }
}

#[test]
fn graphs_take_their_arguments_in_order() {
    let api = load(&root(&[]));
    let graph = api.graph.unwrap();
    let stream = result::stream_create(&api).unwrap();
    // SAFETY: the stream is live, and this runtime records nothing.
    unsafe { result::stream_begin_capture(&api, &graph, stream) }.unwrap();
    // SAFETY: as above.
    let recorded = unsafe { result::stream_end_capture(&api, &graph, stream) }.unwrap();
    // SAFETY: the graph is live.
    let ready = unsafe { result::graph_instantiate(&api, &graph, recorded) }.unwrap();
    // SAFETY: both are live, and there is nothing to do.
    unsafe { result::graph_launch(&api, &graph, ready, stream) }.unwrap();
    // SAFETY: both are live; this runtime follows no handle.
    let swapped = unsafe { result::graph_launch(&api, &graph, ready.wrapping_byte_add(8), stream) };
    assert_eq!(swapped.unwrap_err().call, "hipGraphLaunch");
    // SAFETY: it is not used afterwards.
    unsafe { result::graph_exec_destroy(&api, &graph, ready) }.unwrap();
    // SAFETY: it is not used afterwards.
    unsafe { result::graph_destroy(&api, &graph, recorded) }.unwrap();
}

#[test]
fn a_library_without_a_device_loads_and_says_so() {
    let api = load(&root(&["-DDEVICES=0"]));
    assert_eq!(result::runtime_version(&api).unwrap(), 50_221_153);
    let error = result::device_count(&api).unwrap_err();
    assert_eq!((error.code, error.class()), (hipError_t::hipErrorNoDevice, ErrorClass::Unavailable));
    let said = "hipGetDeviceCount returned hipErrorNoDevice (100): no device is detected";
    assert_eq!(error.to_string(), said);
}

#[test]
fn every_place_before_the_library_is_kept_with_its_reason() {
    let (empty, broken, good) = (tempfile::tempdir().unwrap(), root(&[]), root(&[]));
    fs::write(library(&broken), "no library").unwrap();
    let (_, found) = HipApi::load(&search(&[&empty, &broken, &good])).unwrap();
    assert_eq!(found.library, library(&good));
    let [absent, unloadable] = found.missed.as_slice() else { panic!("{found:?}") };
    assert_eq!((&absent.place, absent.reason.as_str()), (&library(&empty), "no such file"));
    assert_eq!(unloadable.place, library(&broken));
    assert!(!unloadable.reason.is_empty() && !unloadable.reason.contains(NAME), "{}", unloadable.reason);

    let error = HipApi::load(&search(&[&empty, &broken])).unwrap_err();
    let LoadError::NotFound { tried } = &error else { panic!("{error}") };
    let [first, second, by_loader] = tried.as_slice() else { panic!("{error}") };
    assert_eq!([first, second], [absent, unloadable]);
    assert_eq!(by_loader.place, Path::new(NAME));
    for place in [library(&empty), library(&broken), NAME.into()] {
        assert!(error.to_string().contains(&format!("\nlooked for {}: ", place.display())), "{error}");
    }
}

#[test]
fn a_named_file_is_all_that_is_tried() {
    let (good, absent) = (root(&[]), PathBuf::from("/not/here/libamdhip64.so"));
    let search = Search { file: Some(absent.clone()), ..search(&[&good]) };
    let LoadError::NotFound { tried } = HipApi::load(&search).unwrap_err() else {
        panic!("a file was found")
    };
    assert_eq!(tried.iter().map(|miss| &miss.place).collect::<Vec<_>>(), [&absent]);
    let search = Search { file: Some(library(&good)), ..search };
    assert_eq!(HipApi::load(&search).unwrap().1.library, library(&good));
}

#[test]
fn a_copy_of_the_table_keeps_the_library() {
    let api = load(&root(&[]));
    let copy = api.clone();
    drop(api);
    assert_eq!(result::device_count(&copy).unwrap(), 1);
}

#[test]
fn values_come_back_from_where_c_puts_them() {
    let api = load(&root(&["-DDEVICES=3"]));
    assert_eq!(result::driver_version(&api).unwrap(), 50_221_154);
    assert_eq!(result::device_count(&api).unwrap(), 3);
    assert_eq!(result::memory_info(&api).unwrap(), (3, 4));
    let attribute = hipDeviceAttribute_t::hipDeviceAttributeWarpSize;
    let value = result::device_attribute(&api, attribute, 2).unwrap();
    assert_eq!(u32::try_from(value).unwrap(), attribute.0 * 10 + 2);
}

#[test]
fn a_pending_error_is_taken_once() {
    let api = load(&root(&[]));
    let error = result::set_device(&api, 9).unwrap_err();
    // The library has no words for this code's meaning.
    assert_eq!(error.to_string(), "hipSetDevice returned hipErrorInvalidValue (1)");
    assert_eq!(result::take_last_error(&api).unwrap_err().code, error.code);
    result::take_last_error(&api).unwrap();
}

#[test]
fn memory_streams_and_launches_take_their_arguments_in_order() {
    let api = load(&root(&[]));
    let stream = result::stream_create(&api).unwrap();
    let memory = result::malloc(&api, NonZeroUsize::new(4).unwrap()).unwrap();
    let (mut back, bytes) = (0_f32, size_of::<f32>());
    let read = |back: &mut f32| -> Result<(), HipError> {
        let (to, kind) = (ptr::from_mut(back).cast(), hipMemcpyKind::hipMemcpyDeviceToHost);
        // SAFETY: both hold `bytes` bytes, and this runtime has copied when it returns.
        unsafe { result::memcpy_async(&api, to, memory, bytes, kind, stream) }
    };

    // SAFETY: the memory was allocated for `bytes` bytes; the stream is live.
    unsafe { result::memset_async(&api, memory, 0x40, bytes, stream) }.unwrap();
    read(&mut back).unwrap();
    assert_eq!(back.to_bits(), 0x4040_4040);

    // SAFETY: the stream is live.
    let queries =
        [unsafe { result::stream_query(&api, stream) }, unsafe { result::stream_query(&api, stream) }];
    assert_eq!(queries, [Ok(false), Ok(true)]);

    let image = [0_u8; 1];
    // SAFETY: this runtime reads no image.
    let module = unsafe { result::module_load_data(&api, image.as_ptr().cast()) }.unwrap();
    // SAFETY: the module is live.
    let absent = unsafe { result::module_get_function(&api, module, c"thrice") };
    assert_eq!(absent.unwrap_err().code, hipError_t::hipErrorNotFound);
    // SAFETY: the module is live.
    let function = unsafe { result::module_get_function(&api, module, c"twice") }.unwrap();
    let (mut target, mut value) = (memory, 21_f32);
    let mut parameters: [*mut c_void; 2] =
        [ptr::from_mut(&mut target).cast(), ptr::from_mut(&mut value).cast()];
    let (blocks, threads) = ([1, 2, 3], [4, 5, 6]);
    // SAFETY: the two parameters are those of the kernel, and `target` holds a float.
    unsafe { result::module_launch_kernel(&api, function, blocks, threads, stream, &mut parameters) }
        .unwrap();
    // SAFETY: the stream is live.
    unsafe { result::stream_synchronize(&api, stream) }.unwrap();
    read(&mut back).unwrap();
    assert_eq!(back, 42.0);

    // SAFETY: each is from this table and not used afterwards.
    unsafe { result::module_unload(&api, module) }.unwrap();
    // SAFETY: as above.
    unsafe { result::free(&api, memory) }.unwrap();
    // SAFETY: as above.
    unsafe { result::stream_destroy(&api, stream) }.unwrap();
}
