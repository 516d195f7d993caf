//! A stand-in HIP runtime in this process: host memory, and kernels compiled for the host from the sources that the
//! images are compiled from.
//!
//! It refuses what a card would get wrong silently: a copy or a pointer argument outside the live allocations, an image
//! for another card, a launch beyond its kernel's limits, and a kernel that writes past the end of a buffer.

mod graphs;
mod spoil;

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hip_ffi::sys::{
    hipDeviceAttribute_t, hipDeviceProp_tR0600, hipError_t, hipFunction_t, hipMemcpyKind, hipModule_t,
    hipStream_t,
};
use hip_ffi::{HipApi, PropertiesFn};
use hsaco::{CodeObject, KernelInfo, ValueKind};

use graphs::Recorded;
pub use spoil::{SPOILED_BIT, spoil_launch, spoiled};

/// The card that the stand-in says it is.
pub const HOST_HIP_ARCH: &str = "gfx1100";

const NAME: &[u8] = b"kernels compiled for the host";
const SUCCESS: hipError_t = hipError_t::hipSuccess;
const INVALID_VALUE: hipError_t = hipError_t::hipErrorInvalidValue;

/// The function table of the stand-in. All tables share one set of allocations.
pub fn host_hip() -> HipApi {
    HipApi {
        hip_init,
        hip_runtime_get_version,
        hip_driver_get_version: hip_runtime_get_version,
        hip_get_error_name,
        hip_get_error_string: hip_get_error_name,
        hip_get_last_error,
        hip_get_device_count,
        hip_set_device,
        hip_device_get_attribute,
        hip_mem_get_info,
        hip_malloc,
        hip_free,
        hip_memcpy_async,
        hip_memset_async,
        hip_stream_create_with_flags,
        hip_stream_destroy,
        hip_stream_synchronize,
        hip_stream_query: hip_stream_synchronize,
        hip_module_load_data,
        hip_module_unload,
        hip_module_get_function,
        hip_module_launch_kernel,
        hip_get_device_properties: PropertiesFn::R0600(hip_get_device_properties),
        graph: None,
        library: None,
    }
}

/// As [`host_hip`], of a library that has graphs. A thread records alone, whatever stream it names.
pub fn host_hip_with_graphs() -> HipApi {
    HipApi { graph: Some(graphs::api()), ..host_hip() }
}

/// Whether the stand-in can run a kernel of this name.
pub fn host_hip_has(symbol: &CStr) -> bool {
    launcher(symbol).is_some()
}

type Launcher = unsafe extern "C" fn(*const u32, *const u32, *const *mut c_void);

unsafe extern "C" {
    fn gyre_host_kernel(symbol: *const c_char) -> Option<Launcher>;
}

fn launcher(symbol: &CStr) -> Option<Launcher> {
    // SAFETY: the function reads a NUL-terminated string and returns a function of `host_kernels.cpp`.
    unsafe { gyre_host_kernel(symbol.as_ptr()) }
}

/// Memory handed out, by the address that the caller has.
static ALLOCATIONS: Mutex<BTreeMap<usize, Memory>> = Mutex::new(BTreeMap::new());

fn allocations() -> MutexGuard<'static, BTreeMap<usize, Memory>> {
    ALLOCATIONS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One allocation: a guard, the caller's bytes, a guard up to the end. It is leaked until `release`, so that no
/// reference of ours aliases what kernels write.
struct Memory {
    /// Address of the first guard.
    base: usize,
    words: usize,
    bytes: usize,
}

impl Memory {
    /// Bytes of the first guard, and the least of the second.
    const GUARD: usize = 256;
    const GUARD_WORD: u64 = 0xa5a5_a5a5_a5a5_a5a5;

    /// `None` when the host has not enough memory.
    fn new(bytes: usize) -> Option<Memory> {
        // Words, so that every element type is aligned.
        let words = bytes.checked_add(2 * Memory::GUARD)?.div_ceil(size_of::<u64>());
        let mut memory = Vec::new();
        memory.try_reserve_exact(words).ok()?;
        memory.resize(words, Memory::GUARD_WORD);
        let base = Box::into_raw(memory.into_boxed_slice()).cast::<u8>();
        let memory = Memory { base: base.expose_provenance(), words, bytes };
        // What a runtime hands out is not zero: a pattern that is NaN in every float type shows unwritten elements.
        // SAFETY: the caller's bytes lie inside the words just allocated.
        unsafe { ptr::write_bytes(host_pointer(memory.address()), 0xff, bytes) };
        Some(memory)
    }

    /// Address of the caller's bytes.
    fn address(&self) -> usize {
        self.base + Memory::GUARD
    }

    fn contains(&self, address: usize, bytes: usize) -> bool {
        let end = self.address() + self.bytes;
        self.address() <= address && address.checked_add(bytes).is_some_and(|last| last <= end)
    }

    /// Whether nothing was written around the caller's bytes.
    fn guards_hold(&self) -> bool {
        let end = self.base + self.words * size_of::<u64>();
        let guards =
            [(self.base, Memory::GUARD), (self.address() + self.bytes, end - self.address() - self.bytes)];
        guards.into_iter().all(|(address, len)| {
            // SAFETY: both guards lie inside the allocation and are initialised; only a kernel at fault writes them, and
            // it has returned.
            let guard = unsafe { slice::from_raw_parts(host_pointer(address), len) };
            guard.iter().all(|&byte| byte == 0xa5)
        })
    }

    fn release(self) {
        let words = ptr::slice_from_raw_parts_mut(host_pointer(self.base).cast::<u64>(), self.words);
        // SAFETY: `new` leaked this box, and it is released once, since `self` is gone afterwards.
        drop(unsafe { Box::from_raw(words) });
    }
}

/// The host memory behind a device address, which here are one.
fn host_pointer(address: usize) -> *mut u8 {
    ptr::with_exposed_provenance_mut(address)
}

/// Start of the allocation in which `bytes` bytes at `address` lie.
fn allocation_of(address: usize, bytes: usize) -> Option<usize> {
    let allocations = allocations();
    let (start, memory) = allocations.range(..=address).next_back()?;
    memory.contains(address, bytes).then_some(*start)
}

/// A loaded image: its kernels by name.
struct Module {
    kernels: Vec<Function>,
}

struct Function {
    info: KernelInfo,
    launch: Launcher,
}

unsafe extern "C" fn hip_init(_: c_uint) -> hipError_t {
    SUCCESS
}

unsafe extern "C" fn hip_runtime_get_version(version: *mut c_int) -> hipError_t {
    // SAFETY: the caller gives room for an int.
    unsafe { version.write(50_200_000) };
    SUCCESS
}

unsafe extern "C" fn hip_get_error_name(code: hipError_t) -> *const c_char {
    let name = match code {
        SUCCESS => c"hipSuccess",
        INVALID_VALUE => c"hipErrorInvalidValue",
        hipError_t::hipErrorOutOfMemory => c"hipErrorOutOfMemory",
        hipError_t::hipErrorInvalidConfiguration => c"hipErrorInvalidConfiguration",
        hipError_t::hipErrorInvalidImage => c"hipErrorInvalidImage",
        hipError_t::hipErrorNotFound => c"hipErrorNotFound",
        hipError_t::hipErrorIllegalAddress => c"hipErrorIllegalAddress",
        hipError_t::hipErrorNoBinaryForGpu => c"hipErrorNoBinaryForGpu",
        hipError_t::hipErrorInvalidDevice => c"hipErrorInvalidDevice",
        hipError_t::hipErrorInvalidMemcpyDirection => c"hipErrorInvalidMemcpyDirection",
        _ => c"hipErrorUnknown",
    };
    name.as_ptr()
}

unsafe extern "C" fn hip_get_last_error() -> hipError_t {
    SUCCESS
}

unsafe extern "C" fn hip_get_device_count(count: *mut c_int) -> hipError_t {
    // SAFETY: the caller gives room for an int.
    unsafe { count.write(1) };
    SUCCESS
}

unsafe extern "C" fn hip_set_device(ordinal: c_int) -> hipError_t {
    if ordinal == 0 { SUCCESS } else { hipError_t::hipErrorInvalidDevice }
}

unsafe extern "C" fn hip_device_get_attribute(
    value: *mut c_int,
    attribute: hipDeviceAttribute_t,
    _: c_int,
) -> hipError_t {
    let found = match attribute {
        hipDeviceAttribute_t::hipDeviceAttributeWarpSize => 32,
        hipDeviceAttribute_t::hipDeviceAttributeMaxThreadsPerBlock => 1024,
        hipDeviceAttribute_t::hipDeviceAttributeMultiprocessorCount => 1,
        hipDeviceAttribute_t::hipDeviceAttributeIntegrated => 0,
        _ => return INVALID_VALUE,
    };
    // SAFETY: the caller gives room for an int.
    unsafe { value.write(found) };
    SUCCESS
}

unsafe extern "C" fn hip_get_device_properties(
    properties: *mut hipDeviceProp_tR0600,
    _: c_int,
) -> hipError_t {
    // SAFETY: the caller gives a whole structure, zeroed.
    let properties = unsafe { &mut *properties };
    let fill = |field: &mut [c_char; 256], text: &[u8]| {
        field.iter_mut().zip(text).for_each(|(to, from)| *to = from.cast_signed());
    };
    fill(&mut properties.name, NAME);
    fill(&mut properties.gcnArchName, HOST_HIP_ARCH.as_bytes());
    SUCCESS
}

unsafe extern "C" fn hip_mem_get_info(free: *mut usize, total: *mut usize) -> hipError_t {
    const TOTAL: usize = 8 << 30;
    let used: usize = allocations().values().map(|memory| memory.bytes).sum();
    // SAFETY: the caller gives room for the free bytes.
    unsafe { free.write(TOTAL.saturating_sub(used)) };
    // SAFETY: the caller gives room for the total.
    unsafe { total.write(TOTAL) };
    SUCCESS
}

unsafe extern "C" fn hip_malloc(pointer: *mut *mut c_void, bytes: usize) -> hipError_t {
    let Some(memory) = Memory::new(bytes) else { return hipError_t::hipErrorOutOfMemory };
    let address = memory.address();
    allocations().insert(address, memory);
    // SAFETY: the caller gives room for a pointer.
    unsafe { pointer.write(host_pointer(address).cast()) };
    SUCCESS
}

unsafe extern "C" fn hip_free(pointer: *mut c_void) -> hipError_t {
    if pointer.is_null() {
        return SUCCESS;
    }
    let Some(memory) = allocations().remove(&pointer.addr()) else { return INVALID_VALUE };
    let guards_hold = memory.guards_hold();
    memory.release();
    if guards_hold { SUCCESS } else { hipError_t::hipErrorIllegalAddress }
}

unsafe extern "C" fn hip_memcpy_async(
    target: *mut c_void,
    source: *const c_void,
    bytes: usize,
    kind: hipMemcpyKind,
    _: hipStream_t,
) -> hipError_t {
    let (to_device, from_device) = match kind {
        hipMemcpyKind::hipMemcpyHostToDevice => (true, false),
        hipMemcpyKind::hipMemcpyDeviceToHost => (false, true),
        hipMemcpyKind::hipMemcpyDeviceToDevice => (true, true),
        _ => return hipError_t::hipErrorInvalidMemcpyDirection,
    };
    if to_device && from_device {
        let (target, source) = (target.addr(), source.addr());
        if graphs::records() {
            return graphs::record(Recorded::Copy { target, source, bytes });
        }
        // SAFETY: the caller vouches for the copy.
        return unsafe { copy(target, source, bytes) };
    }
    let outside = |pointer: *const c_void| allocation_of(pointer.addr(), bytes).is_none();
    if (to_device && outside(target)) || (from_device && outside(source)) {
        return INVALID_VALUE;
    }
    let target = if to_device { host_pointer(target.addr()) } else { target.cast() };
    let source = if from_device { host_pointer(source.addr()) } else { source.cast_mut().cast() };
    // SAFETY: the device sides were found inside allocations; the caller vouches for the host side. `copy` allows both
    // to overlap.
    unsafe { ptr::copy(source, target, bytes) };
    SUCCESS
}

unsafe extern "C" fn hip_memset_async(
    target: *mut c_void,
    value: c_int,
    bytes: usize,
    _: hipStream_t,
) -> hipError_t {
    let (target, Ok(value)) = (target.addr(), u8::try_from(value)) else { return INVALID_VALUE };
    if graphs::records() {
        return graphs::record(Recorded::Fill { target, value, bytes });
    }
    fill(target, value, bytes)
}

/// # Safety
/// No one else uses the bytes, which may overlap.
unsafe fn copy(target: usize, source: usize, bytes: usize) -> hipError_t {
    if allocation_of(target, bytes).is_none() || allocation_of(source, bytes).is_none() {
        return INVALID_VALUE;
    }
    // SAFETY: both sides were found inside allocations.
    unsafe { ptr::copy(host_pointer(source), host_pointer(target), bytes) };
    SUCCESS
}

fn fill(target: usize, value: u8, bytes: usize) -> hipError_t {
    if allocation_of(target, bytes).is_none() {
        return INVALID_VALUE;
    }
    // SAFETY: the bytes were found inside an allocation.
    unsafe { ptr::write_bytes(host_pointer(target), value, bytes) };
    SUCCESS
}

unsafe extern "C" fn hip_stream_create_with_flags(stream: *mut hipStream_t, _: c_uint) -> hipError_t {
    graphs::begin_anew();
    // SAFETY: the caller gives room for a handle; nothing is read through it.
    unsafe { stream.write(NonNull::dangling().as_ptr()) };
    SUCCESS
}

unsafe extern "C" fn hip_stream_destroy(_: hipStream_t) -> hipError_t {
    SUCCESS
}

unsafe extern "C" fn hip_stream_synchronize(_: hipStream_t) -> hipError_t {
    SUCCESS
}

unsafe extern "C" fn hip_module_load_data(module: *mut hipModule_t, image: *const c_void) -> hipError_t {
    let image = image.cast::<u8>();
    // SAFETY: the caller gives a whole ELF, whose header is 64 bytes.
    let header = unsafe { slice::from_raw_parts(image, 64) };
    let Some(len) = elf_len(header) else { return hipError_t::hipErrorInvalidImage };
    // SAFETY: section headers end a linked ELF, so the whole object has this length.
    let bytes = unsafe { slice::from_raw_parts(image, len) };
    let Ok(object) = CodeObject::parse(bytes) else { return hipError_t::hipErrorInvalidImage };
    let runs_here = HOST_HIP_ARCH.parse().is_ok_and(|card| object.target().runs_on(&card));
    if !runs_here {
        return hipError_t::hipErrorNoBinaryForGpu;
    }
    let function = |info: &KernelInfo| {
        let symbol = std::ffi::CString::new(info.name.as_str()).ok()?;
        Some(Function { info: info.clone(), launch: launcher(&symbol)? })
    };
    let kernels = object.kernels().iter().filter_map(function).collect();
    let loaded = Box::into_raw(Box::new(Module { kernels }));
    // SAFETY: the caller gives room for a handle.
    unsafe { module.write(loaded.cast()) };
    SUCCESS
}

/// Length of an ELF from its header: the section headers' offset (at 40), entry size (at 58) and count (at 60).
fn elf_len(header: &[u8]) -> Option<usize> {
    let offset = u64::from_le_bytes(header.get(40..48)?.try_into().ok()?);
    let short = |at: usize| Some(u64::from(u16::from_le_bytes(header.get(at..at + 2)?.try_into().ok()?)));
    let len = offset.checked_add(short(58)?.checked_mul(short(60)?)?)?;
    header.starts_with(b"\x7fELF").then(|| usize::try_from(len).ok()).flatten()
}

unsafe extern "C" fn hip_module_unload(module: hipModule_t) -> hipError_t {
    // SAFETY: the handle is from `hip_module_load_data`, and the caller gives it back once.
    drop(unsafe { Box::from_raw(module.cast::<Module>()) });
    SUCCESS
}

unsafe extern "C" fn hip_module_get_function(
    function: *mut hipFunction_t,
    module: hipModule_t,
    name: *const c_char,
) -> hipError_t {
    // SAFETY: the handle is from `hip_module_load_data` and live.
    let module = unsafe { &*module.cast::<Module>() };
    // SAFETY: the caller gives a NUL-terminated string.
    let name = unsafe { CStr::from_ptr(name) };
    let Some(found) = module.kernels.iter().find(|kernel| kernel.info.name.as_bytes() == name.to_bytes())
    else {
        return hipError_t::hipErrorNotFound;
    };
    // SAFETY: the caller gives room for a handle. It lives as long as the module.
    unsafe { function.write(ptr::from_ref(found).cast_mut().cast()) };
    SUCCESS
}

unsafe extern "C" fn hip_module_launch_kernel(
    function: hipFunction_t,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    _: c_uint,
    _: hipStream_t,
    parameters: *mut *mut c_void,
    _: *mut *mut c_void,
) -> hipError_t {
    let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
    if !graphs::records() {
        // SAFETY: the caller vouches for all of it.
        return unsafe { launch(function, grid, block, parameters) };
    }
    // SAFETY: the handle is from `hip_module_get_function` and live.
    let Function { info, .. } = unsafe { &*function.cast::<Function>() };
    let argument = |(index, arg): (usize, &hsaco::ArgInfo)| {
        let bytes = arg.size as usize;
        let mut words = vec![0_u64; bytes.div_ceil(size_of::<u64>())];
        // SAFETY: the caller gives an array of a pointer per explicit argument, so this is inside it.
        let parameter = unsafe { parameters.add(index) };
        // SAFETY: as above; the array is initialised.
        let value = unsafe { *parameter };
        // SAFETY: the pointer is to an argument of this size, and there are as many words.
        unsafe { ptr::copy_nonoverlapping(value.cast::<u8>(), words.as_mut_ptr().cast(), bytes) };
        words
    };
    let arguments = info.explicit_args().enumerate().map(argument).collect();
    graphs::record(Recorded::Launch { function, grid, block, arguments })
}

/// # Safety
/// `function` is live; `parameters` holds a pointer to each explicit argument, of its size; the kernel may run now.
unsafe fn launch(
    function: hipFunction_t,
    grid: [u32; 3],
    block: [u32; 3],
    parameters: *mut *mut c_void,
) -> hipError_t {
    // SAFETY: the handle is from `hip_module_get_function` and live.
    let Function { info, launch } = unsafe { &*function.cast::<Function>() };
    let threads = block.iter().map(|&count| u64::from(count)).product::<u64>();
    let countable = grid.iter().zip(block).all(|(blocks, threads)| blocks.checked_mul(threads).is_some());
    if grid.contains(&0) || threads == 0 || threads > u64::from(info.max_block) || !countable {
        return hipError_t::hipErrorInvalidConfiguration;
    }
    let mut touched = Vec::new();
    for (index, arg) in info.explicit_args().enumerate() {
        // SAFETY: the caller gives an array of a pointer per explicit argument, so this is inside it.
        let parameter = unsafe { parameters.add(index) };
        // SAFETY: as above; the array is initialised.
        let value = unsafe { *parameter };
        if arg.kind != ValueKind::GlobalBuffer {
            continue;
        }
        // SAFETY: this argument is an address, eight bytes.
        let address = unsafe { value.cast::<usize>().read_unaligned() };
        match allocation_of(address, 1) {
            Some(allocation) => touched.push(allocation),
            None if address == 0 => {} // An operand without elements.
            None => return hipError_t::hipErrorIllegalAddress,
        }
    }
    touched.sort_unstable();
    touched.dedup();
    let before = {
        let live = allocations();
        spoil::before(touched.iter().filter_map(|start| live.get(start)))
    };
    // SAFETY: the launcher is of this symbol, whose parameters the caller gives; the caller vouches for what the kernel
    // does with them, and its buffers are host memory.
    unsafe { launch(grid.as_ptr(), block.as_ptr(), parameters) };
    if let Some(before) = before {
        spoil::after(before);
    }
    let allocations = allocations();
    let guards_hold = touched.iter().filter_map(|start| allocations.get(start)).all(Memory::guards_hold);
    if guards_hold { SUCCESS } else { hipError_t::hipErrorIllegalAddress }
}
