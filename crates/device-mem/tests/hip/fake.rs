//! A HIP runtime in this process that is as lazy as HIP may be: copies and kernels wait in the stream until something
//! waits for it. It keeps what it was asked, refuses calls on a thread that has bound no device, and fails on request.
//!
//! All state is of the calling thread, so tests do not meet each other.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr;
use std::sync::{Arc, Barrier};

use hip_ffi::sys::{
    hipDeviceAttribute_t, hipDeviceProp_t, hipDeviceProp_tR0600, hipError_t, hipFunction_t, hipMemcpyKind,
    hipModule_t, hipStream_t,
};
use hip_ffi::{HipApi, PropertiesFn};

mod graphs;

/// The table, in HIP 6's layout of the properties.
pub(crate) fn api() -> HipApi {
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
        hip_stream_query,
        hip_module_load_data,
        hip_module_unload,
        hip_module_get_function,
        hip_module_launch_kernel,
        hip_get_device_properties: PropertiesFn::R0600(hip_get_device_properties_r0600),
        graph: Some(graphs::api()),
        library: None,
    }
}

/// As [`api`], in HIP 5's layout.
pub(crate) fn legacy_api() -> HipApi {
    HipApi { hip_get_device_properties: PropertiesFn::Legacy(hip_get_device_properties), ..api() }
}

/// What the runtime of one thread holds.
pub(crate) struct Fake {
    /// Calls made, in order. Asking for an error's words is none.
    pub(crate) calls: Vec<&'static str>,
    /// Devices there are.
    pub(crate) devices: c_int,
    /// Target of every device.
    pub(crate) arch: &'static str,
    /// Whether it shares the CPU's memory.
    pub(crate) integrated: bool,
    /// The device that this thread has bound.
    pub(crate) bound: Option<c_int>,
    /// Calls that fail: from the call of this number on, as many as given, with the code.
    pub(crate) fail: Option<Failure>,
    /// The thread's pending error.
    pub(crate) pending: hipError_t,
    /// How often the stream is still ready when it is asked; then it never is. `None` for always.
    pub(crate) ready_for: Option<usize>,
    /// Met once, when the stream is not ready for the first time.
    pub(crate) first_wait: Option<Arc<Barrier>>,
    /// Live allocations: start and bytes.
    pub(crate) memory: BTreeMap<usize, usize>,
    /// Live streams and modules.
    pub(crate) handles: usize,
    /// Launches that ran: name, blocks, threads.
    pub(crate) launches: Vec<(String, [u32; 3], [u32; 3])>,
    stream: Vec<Work>,
    /// What the stream has recorded, while it does.
    recording: Option<Vec<Work>>,
    /// Graphs that were made, by the number of their handle.
    graphs: BTreeMap<usize, Vec<Work>>,
}

#[derive(Clone, Copy)]
pub(crate) struct Failure {
    /// The calls that count; `None` for all.
    pub(crate) call: Option<&'static str>,
    /// How many of them still succeed.
    pub(crate) after: usize,
    /// How many then fail.
    pub(crate) times: usize,
    pub(crate) code: hipError_t,
}

#[derive(Clone, Copy)]
enum Work {
    Copy { target: usize, source: usize, bytes: usize },
    Fill { target: usize, value: u8, bytes: usize },
    Scale { y: usize, x: usize, factor: f32, length: usize, blocks: [u32; 3], threads: [u32; 3] },
}

thread_local! {
    static FAKE: RefCell<Fake> = const { RefCell::new(Fake {
        calls: Vec::new(),
        devices: 1,
        arch: "gfx1100",
        integrated: false,
        bound: None,
        fail: None,
        pending: hipError_t::hipSuccess,
        ready_for: None,
        first_wait: None,
        memory: BTreeMap::new(),
        handles: 0,
        launches: Vec::new(),
        stream: Vec::new(),
        recording: None,
        graphs: BTreeMap::new(),
    }) };
}

/// Looks at, or changes, this thread's runtime.
pub(crate) fn with<R>(look: impl FnOnce(&mut Fake) -> R) -> R {
    FAKE.with_borrow_mut(look)
}

/// The calls made while `run` ran.
pub(crate) fn calls_of(run: impl FnOnce()) -> Vec<&'static str> {
    let before = with(|fake| fake.calls.len());
    run();
    with(|fake| fake.calls.split_off(before))
}

/// Makes the next `times` calls of this name fail.
pub(crate) fn fail(call: &'static str, times: usize, code: hipError_t) {
    with(|fake| fake.fail = Some(Failure { call: Some(call), after: 0, times, code }));
}

impl Fake {
    /// Notes a call, and gives the code with which it fails.
    fn enter(&mut self, call: &'static str) -> Result<(), hipError_t> {
        self.calls.push(call);
        let Some(failure) = &mut self.fail else { return Ok(()) };
        if failure.call.is_some_and(|named| named != call) {
            return Ok(());
        }
        if failure.after > 0 {
            failure.after -= 1;
            return Ok(());
        }
        if failure.times == 0 {
            return Ok(());
        }
        failure.times -= 1;
        self.pending = failure.code;
        Err(failure.code)
    }

    /// As `enter`, for calls that work on the bound device.
    fn enter_bound(&mut self, call: &'static str) -> Result<(), hipError_t> {
        self.enter(call)?;
        self.bound.map(drop).ok_or(hipError_t::hipErrorInvalidDevice)
    }

    fn inside(&self, address: usize, bytes: usize) -> Result<(), hipError_t> {
        let allocation = self.memory.range(..=address).next_back();
        let held = allocation.is_some_and(|(start, len)| address + bytes <= start + len);
        if held { Ok(()) } else { Err(hipError_t::hipErrorInvalidValue) }
    }

    /// Puts work into the stream, or into what it records.
    fn give(&mut self, work: Work) {
        self.recording.as_mut().unwrap_or(&mut self.stream).push(work);
    }

    /// Does all that waits in the stream.
    fn run(&mut self) {
        for work in std::mem::take(&mut self.stream) {
            match work {
                // SAFETY: device sides were found inside allocations, which are freed after this; host sides belong to
                // callers that wait.
                Work::Copy { target, source, bytes } => unsafe {
                    ptr::copy(host(source), host(target), bytes);
                },
                // SAFETY: as above.
                Work::Fill { target, value, bytes } => unsafe {
                    ptr::write_bytes(host(target), value, bytes)
                },
                Work::Scale { y, x, factor, length, blocks, threads } => {
                    for at in 0..length {
                        let offset = at * size_of::<f32>();
                        // SAFETY: the launch found `length` elements inside the allocation of each.
                        let value = unsafe { host(x + offset).cast::<f32>().read() };
                        // SAFETY: as above.
                        unsafe { host(y + offset).cast::<f32>().write(value * factor) };
                    }
                    self.launches.push((String::from("scale"), blocks, threads));
                }
            }
        }
    }
}

fn host(address: usize) -> *mut u8 {
    ptr::with_exposed_provenance_mut(address)
}

fn code(done: Result<(), hipError_t>) -> hipError_t {
    done.err().unwrap_or(hipError_t::hipSuccess)
}

/// Writes a result where the caller wants it.
///
/// # Safety
/// `target` is valid for writes.
unsafe fn give<T>(target: *mut T, value: T) -> Result<(), hipError_t> {
    // SAFETY: the caller vouches for it.
    unsafe { target.write(value) };
    Ok(())
}

unsafe extern "C" fn hip_init(_: c_uint) -> hipError_t {
    code(with(|fake| fake.enter("hipInit")))
}

unsafe extern "C" fn hip_runtime_get_version(version: *mut c_int) -> hipError_t {
    // SAFETY: the caller gives room for an int.
    code(with(|fake| fake.enter("hipRuntimeGetVersion")).and_then(|()| unsafe { give(version, 60_000_000) }))
}

unsafe extern "C" fn hip_get_error_name(_: hipError_t) -> *const c_char {
    c"hipErrorFake".as_ptr()
}

unsafe extern "C" fn hip_get_last_error() -> hipError_t {
    with(|fake| {
        fake.calls.push("hipGetLastError");
        std::mem::replace(&mut fake.pending, hipError_t::hipSuccess)
    })
}

unsafe extern "C" fn hip_get_device_count(count: *mut c_int) -> hipError_t {
    let devices = with(|fake| fake.enter("hipGetDeviceCount").map(|()| fake.devices));
    // SAFETY: the caller gives room for an int.
    code(devices.and_then(|devices| unsafe { give(count, devices) }))
}

unsafe extern "C" fn hip_set_device(ordinal: c_int) -> hipError_t {
    code(with(|fake| {
        fake.enter("hipSetDevice")?;
        fake.bound = Some(ordinal).filter(|ordinal| *ordinal < fake.devices);
        fake.bound.map(drop).ok_or(hipError_t::hipErrorInvalidDevice)
    }))
}

unsafe extern "C" fn hip_device_get_attribute(
    value: *mut c_int,
    attribute: hipDeviceAttribute_t,
    _: c_int,
) -> hipError_t {
    let found = match attribute {
        hipDeviceAttribute_t::hipDeviceAttributeWarpSize => 32,
        hipDeviceAttribute_t::hipDeviceAttributeMaxThreadsPerBlock => 128,
        hipDeviceAttribute_t::hipDeviceAttributeMultiprocessorCount => 3,
        hipDeviceAttribute_t::hipDeviceAttributeIntegrated => with(|fake| fake.integrated.into()),
        hipDeviceAttribute_t::hipDeviceAttributePciBusId => 0xfe,
        hipDeviceAttribute_t::hipDeviceAttributePciDeviceId => 0x1f,
        _ => return hipError_t::hipErrorInvalidValue,
    };
    // SAFETY: the caller gives room for an int.
    code(with(|fake| fake.enter("hipDeviceGetAttribute")).and_then(|()| unsafe { give(value, found) }))
}

unsafe extern "C" fn hip_get_device_properties_r0600(
    properties: *mut hipDeviceProp_tR0600,
    _: c_int,
) -> hipError_t {
    // SAFETY: the caller gives a whole, initialised structure.
    let properties = unsafe { &mut *properties };
    code(with(|fake| fake.names("hipGetDeviceProperties", &mut properties.name, &mut properties.gcnArchName)))
}

unsafe extern "C" fn hip_get_device_properties(properties: *mut hipDeviceProp_t, _: c_int) -> hipError_t {
    // SAFETY: as above.
    let properties = unsafe { &mut *properties };
    code(with(|fake| fake.names("hipGetDeviceProperties", &mut properties.name, &mut properties.gcnArchName)))
}

impl Fake {
    fn names(
        &mut self,
        call: &'static str,
        name: &mut [c_char],
        arch: &mut [c_char],
    ) -> Result<(), hipError_t> {
        self.enter(call)?;
        for (target, text) in [(name, "a card"), (arch, self.arch)] {
            target.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from.cast_signed());
        }
        Ok(())
    }
}

unsafe extern "C" fn hip_mem_get_info(free: *mut usize, total: *mut usize) -> hipError_t {
    code(with(|fake| fake.enter_bound("hipMemGetInfo")).and_then(|()| {
        // SAFETY: the caller gives room for the free bytes.
        unsafe { give(free, 1 << 29) }?;
        // SAFETY: the caller gives room for the total.
        unsafe { give(total, 1 << 30) }
    }))
}

unsafe extern "C" fn hip_malloc(pointer: *mut *mut c_void, bytes: usize) -> hipError_t {
    let allocated = with(|fake| {
        fake.enter_bound("hipMalloc")?;
        let words = vec![0xdead_beef_dead_beef_u64; bytes.div_ceil(size_of::<u64>())];
        let start = Box::into_raw(words.into_boxed_slice()).cast::<u8>().expose_provenance();
        fake.memory.insert(start, bytes);
        Ok(start)
    });
    // SAFETY: the caller gives room for a pointer.
    code(allocated.and_then(|start| unsafe { give(pointer, host(start).cast()) }))
}

unsafe extern "C" fn hip_free(pointer: *mut c_void) -> hipError_t {
    code(with(|fake| {
        fake.enter_bound("hipFree")?;
        fake.run();
        let bytes = fake.memory.remove(&pointer.addr()).ok_or(hipError_t::hipErrorInvalidValue)?;
        // Device addresses are numbers to their owner.
        let start = ptr::with_exposed_provenance_mut::<u64>(pointer.addr());
        let words = ptr::slice_from_raw_parts_mut(start, bytes.div_ceil(size_of::<u64>()));
        // SAFETY: `hip_malloc` leaked this box, and the map held it once.
        drop(unsafe { Box::from_raw(words) });
        Ok(())
    }))
}

unsafe extern "C" fn hip_memcpy_async(
    target: *mut c_void,
    source: *const c_void,
    bytes: usize,
    kind: hipMemcpyKind,
    _: hipStream_t,
) -> hipError_t {
    let (target, source) = (target.expose_provenance(), source.expose_provenance());
    code(with(|fake| {
        fake.enter_bound("hipMemcpyAsync")?;
        if kind != hipMemcpyKind::hipMemcpyDeviceToHost {
            fake.inside(target, bytes)?;
        }
        if kind != hipMemcpyKind::hipMemcpyHostToDevice {
            fake.inside(source, bytes)?;
        }
        fake.give(Work::Copy { target, source, bytes });
        Ok(())
    }))
}

unsafe extern "C" fn hip_memset_async(
    target: *mut c_void,
    value: c_int,
    bytes: usize,
    _: hipStream_t,
) -> hipError_t {
    code(with(|fake| {
        fake.enter_bound("hipMemsetAsync")?;
        let (target, value) = (target.addr(), u8::try_from(value).unwrap_or(0));
        fake.inside(target, bytes)?;
        fake.give(Work::Fill { target, value, bytes });
        Ok(())
    }))
}

unsafe extern "C" fn hip_stream_create_with_flags(stream: *mut hipStream_t, _: c_uint) -> hipError_t {
    let created = with(|fake| {
        fake.enter_bound("hipStreamCreateWithFlags")?;
        fake.handles += 1;
        Ok(())
    });
    // SAFETY: the caller gives room for a handle; nothing is read through it.
    code(created.and_then(|()| unsafe { give(stream, ptr::dangling_mut()) }))
}

unsafe extern "C" fn hip_stream_destroy(_: hipStream_t) -> hipError_t {
    code(with(|fake| {
        fake.enter_bound("hipStreamDestroy")?;
        fake.handles -= 1;
        Ok(())
    }))
}

unsafe extern "C" fn hip_stream_synchronize(_: hipStream_t) -> hipError_t {
    code(with(|fake| {
        fake.enter_bound("hipStreamSynchronize")?;
        fake.run();
        Ok(())
    }))
}

unsafe extern "C" fn hip_stream_query(_: hipStream_t) -> hipError_t {
    code(with(|fake| {
        fake.enter_bound("hipStreamQuery")?;
        match &mut fake.ready_for {
            Some(0) => {
                if let Some(barrier) = fake.first_wait.take() {
                    barrier.wait();
                }
                return Err(hipError_t::hipErrorNotReady);
            }
            Some(left) => *left -= 1,
            None => {}
        }
        fake.run();
        Ok(())
    }))
}

unsafe extern "C" fn hip_module_load_data(module: *mut hipModule_t, _: *const c_void) -> hipError_t {
    let loaded = with(|fake| {
        fake.enter_bound("hipModuleLoadData")?;
        fake.handles += 1;
        Ok(())
    });
    // SAFETY: the caller gives room for a handle; nothing is read through it.
    code(loaded.and_then(|()| unsafe { give(module, ptr::dangling_mut()) }))
}

unsafe extern "C" fn hip_module_unload(_: hipModule_t) -> hipError_t {
    code(with(|fake| {
        fake.enter_bound("hipModuleUnload")?;
        fake.handles -= 1;
        Ok(())
    }))
}

unsafe extern "C" fn hip_module_get_function(
    function: *mut hipFunction_t,
    _: hipModule_t,
    name: *const c_char,
) -> hipError_t {
    // SAFETY: the caller gives a NUL-terminated string.
    let name = unsafe { CStr::from_ptr(name) };
    let entered = with(|fake| fake.enter_bound("hipModuleGetFunction"));
    let found = if name == c"scale" { Ok(()) } else { Err(hipError_t::hipErrorNotFound) };
    // SAFETY: the caller gives room for a handle; nothing is read through it.
    code(entered.and(found).and_then(|()| unsafe { give(function, ptr::dangling_mut()) }))
}

/// Knows one kernel: `scale(float *y, const float *x, float factor, unsigned long length)`.
unsafe extern "C" fn hip_module_launch_kernel(
    _: hipFunction_t,
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
    // SAFETY: the caller gives a pointer to each of the kernel's four arguments.
    let [y, x, factor, length] = unsafe { parameters.cast::<[*mut c_void; 4]>().read() };
    // SAFETY: the first argument is an address.
    let y = unsafe { y.cast::<usize>().read() };
    // SAFETY: the second argument is an address.
    let x = unsafe { x.cast::<usize>().read() };
    // SAFETY: the third argument is a float.
    let factor = unsafe { factor.cast::<f32>().read() };
    // SAFETY: the fourth argument is a count.
    let length = unsafe { length.cast::<usize>().read() };
    code(with(|fake| {
        fake.enter_bound("hipModuleLaunchKernel")?;
        [x, y].iter().try_for_each(|address| fake.inside(*address, length * size_of::<f32>()))?;
        let (blocks, threads) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        fake.give(Work::Scale { y, x, factor, length, blocks, threads });
        Ok(())
    }))
}
