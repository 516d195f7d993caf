//! What a compiler's `<<<>>>` programs call: registration at start, launches by the host function's address, and
//! device variables by their host shadow's.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    ffi::{c_char, c_int, c_uint, c_void},
    ptr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hip_ffi::sys::{hipError_t, hipMemcpyKind, hipStream_t};

use crate::{
    Dispatch, Program,
    hip::{
        cards::{self, Card},
        copy,
        errors::{remember, tell},
        handles::Handles,
        image,
        launch::{Function, pack},
        memory, module, put, text,
    },
};

/// `HIPF`, the wrapper's magic number.
const WRAPPER_MAGIC: u32 = 0x4849_5046;

/// Clang's `__hip_fatbin_wrapper`.
#[repr(C)]
pub(super) struct Wrapper {
    magic: u32,
    version: u32,
    binary: *const c_void,
    unused: *const c_void,
}

/// `dim3`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Dim3 {
    x: c_uint,
    y: c_uint,
    z: c_uint,
}

impl From<Dim3> for [u32; 3] {
    fn from(size: Dim3) -> Self {
        [size.x, size.y, size.z]
    }
}

/// A registered image. It is loaded when it is first needed: most of a program's images may be for other cards.
struct Binary {
    image: &'static [u8],
    /// By the card's ordinal.
    programs: Mutex<BTreeMap<usize, Result<Arc<Program>, hipError_t>>>,
}

impl Binary {
    /// The program on a card.
    fn program(&self, card: &Card) -> Result<Arc<Program>, hipError_t> {
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        let load = || card.machine.load(self.image).map(Arc::new).map_err(tell);
        programs.entry(card.ordinal).or_insert_with(load).clone()
    }
}

/// A name in a registered image.
#[derive(Clone)]
struct Entry {
    binary: Arc<Binary>,
    name: String,
}

/// Names by the address that stands for them on the host.
type Entries = Mutex<BTreeMap<usize, Entry>>;

static BINARIES: Handles<Arc<Binary>> = Handles::new();
static KERNELS: Entries = Mutex::new(BTreeMap::new());
static VARIABLES: Entries = Mutex::new(BTreeMap::new());

/// A launch's configuration, between the caller and the kernel's host function.
struct Configuration {
    groups: Dim3,
    block: Dim3,
    dynamic_lds: usize,
    stream: hipStream_t,
}

thread_local! {
    static CONFIGURATIONS: RefCell<Vec<Configuration>> = const { RefCell::new(Vec::new()) };
}

fn lock(entries: &Entries) -> MutexGuard<'_, BTreeMap<usize, Entry>> {
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Registers a name; what is wrong with it is the error of its use.
///
/// # Safety
///
/// `name` is null or a NUL-terminated string.
unsafe fn register(entries: &Entries, binary: *mut *mut c_void, host: *const c_void, name: *const c_char) {
    // SAFETY: by the contract.
    let (Ok(binary), Ok(name)) = (BINARIES.get(binary), unsafe { text(name) }) else { return };
    let entry = Entry { binary: Arc::clone(&binary), name: name.to_owned() };
    lock(entries).insert(host.addr(), entry);
}

/// The kernel that a host address stands for, on the thread's card.
fn kernel(host: *const c_void) -> Result<Function, hipError_t> {
    let entry = lock(&KERNELS).get(&host.addr()).cloned().ok_or(hipError_t::hipErrorInvalidDeviceFunction)?;
    let card = cards::current()?;
    Ok(Function { card, program: entry.binary.program(card)?, kernel: entry.name })
}

/// Address and bytes of the variable whose shadow is at a host address.
fn variable(host: *const c_void) -> Result<(u64, usize), hipError_t> {
    let entry = lock(&VARIABLES).get(&host.addr()).cloned().ok_or(hipError_t::hipErrorInvalidSymbol)?;
    let found = entry.binary.program(cards::current()?)?.symbol(&entry.name);
    let (address, bytes) = found.ok_or(hipError_t::hipErrorInvalidSymbol)?;
    Ok((address, usize::try_from(bytes).map_err(|_| hipError_t::hipErrorInvalidSymbol)?))
}

/// The address of `bytes` bytes of a variable.
fn part(host: *const c_void, offset: usize, bytes: usize) -> Result<*mut c_void, hipError_t> {
    let (address, size) = variable(host)?;
    if offset.checked_add(bytes).is_none_or(|end| end > size) {
        return Err(hipError_t::hipErrorInvalidValue);
    }
    Ok(memory::pointer(address).wrapping_byte_add(offset))
}

/// Registers an image; null when there is none that can be read.
///
/// # Safety
///
/// `wrapper` is null or the compiler's structure, whose image outlives its registration.
#[cfg_attr(feature = "cdylib", unsafe(no_mangle))]
pub(super) unsafe extern "C" fn __hipRegisterFatBinary(wrapper: *const Wrapper) -> *mut *mut c_void {
    // SAFETY: null or valid by the contract.
    let Some(wrapper) = (unsafe { wrapper.as_ref() }) else { return ptr::null_mut() };
    if wrapper.magic != WRAPPER_MAGIC || wrapper.version != 1 {
        remember(Err(hipError_t::hipErrorInvalidImage));
        return ptr::null_mut();
    }
    // SAFETY: the compiler's image.
    let Some(image) = (unsafe { image::whole(wrapper.binary.cast()) }) else {
        remember(Err(hipError_t::hipErrorInvalidImage));
        return ptr::null_mut();
    };
    BINARIES.add(Arc::new(Binary { image, programs: Mutex::default() }))
}

/// Ends a registration and the names in it.
#[cfg_attr(feature = "cdylib", unsafe(no_mangle))]
pub(super) extern "C" fn __hipUnregisterFatBinary(binary: *mut *mut c_void) {
    let Ok(binary) = BINARIES.remove(binary) else { return };
    for entries in [&KERNELS, &VARIABLES] {
        lock(entries).retain(|_, entry| !Arc::ptr_eq(&entry.binary, &binary));
    }
}

/// Registers a kernel under the address of its host function.
///
/// # Safety
///
/// `name` is null or a NUL-terminated string.
#[cfg_attr(feature = "cdylib", unsafe(no_mangle))]
pub(super) unsafe extern "C" fn __hipRegisterFunction(
    binary: *mut *mut c_void,
    host: *const c_void,
    _device_function: *mut c_char,
    name: *const c_char,
    _thread_limit: c_uint,
    _thread_index: *mut c_void,
    _group_index: *mut c_void,
    _block: *mut c_void,
    _grid: *mut c_void,
    _wave_size: *mut c_int,
) {
    // SAFETY: the compiler's string.
    unsafe { register(&KERNELS, binary, host, name) }
}

/// Registers a device variable under the address of its host shadow.
///
/// # Safety
///
/// `name` is null or a NUL-terminated string.
#[cfg_attr(feature = "cdylib", unsafe(no_mangle))]
pub(super) unsafe extern "C" fn __hipRegisterVar(
    binary: *mut *mut c_void,
    host: *mut c_void,
    _host_name: *mut c_char,
    name: *const c_char,
    _external: c_int,
    _bytes: usize,
    _constant: c_int,
    _global: c_int,
) {
    // SAFETY: the compiler's string.
    unsafe { register(&VARIABLES, binary, host, name) }
}

hip_functions! {
    /// Keeps the configuration of a launch for the kernel's host function.
    fn __hipPushCallConfiguration(groups: Dim3, block: Dim3, dynamic_lds: usize, stream: hipStream_t) {
        let configuration = Configuration { groups, block, dynamic_lds, stream };
        CONFIGURATIONS.with_borrow_mut(|all| all.push(configuration));
        Ok(())
    }

    /// Gives back the configuration that was kept last.
    fn __hipPopCallConfiguration(
        groups: *mut Dim3, block: *mut Dim3, dynamic_lds: *mut usize, stream: *mut hipStream_t,
    ) {
        let last = CONFIGURATIONS.with_borrow_mut(Vec::pop);
        let last = last.ok_or(hipError_t::hipErrorMissingConfiguration)?;
        // SAFETY: the caller's place for the result.
        unsafe { put(groups, last.groups) }?;
        // SAFETY: the caller's place for the result.
        unsafe { put(block, last.block) }?;
        // SAFETY: the caller's place for the result.
        unsafe { put(dynamic_lds, last.dynamic_lds) }?;
        // SAFETY: the caller's place for the result.
        unsafe { put(stream, last.stream) }
    }

    /// Runs a registered kernel to its end; the grid is in groups.
    fn hipLaunchKernel(
        host: *const c_void, groups: Dim3, block: Dim3, arguments: *mut *mut c_void, dynamic_lds: usize,
        on: hipStream_t,
    ) {
        let function = kernel(host)?;
        // SAFETY: the caller's arguments.
        let packed = unsafe { pack(function.info()?, arguments) }?;
        let dynamic_lds = u32::try_from(dynamic_lds).map_err(|_| hipError_t::hipErrorInvalidValue)?;
        let dispatch = Dispatch { groups: groups.into(), block: block.into(), dynamic_lds };
        function.launch_on(on, dispatch, packed)
    }

    /// Groups of a registered kernel that are on a unit at the same time.
    fn hipOccupancyMaxActiveBlocksPerMultiprocessor(
        place: *mut c_int, host: *const c_void, block: c_int, dynamic_lds: usize,
    ) {
        let groups = module::occupancy(&kernel(host)?, block, dynamic_lds)?;
        // SAFETY: the caller's place for the result.
        unsafe { put(place, groups) }
    }

    /// The grid and the block that fill the card.
    fn hipOccupancyMaxPotentialBlockSize(
        groups: *mut c_int, block: *mut c_int, host: *const c_void, _dynamic_lds: usize, limit: c_int,
    ) {
        let (most_groups, most_block) = module::largest(&kernel(host)?, limit)?;
        // SAFETY: the caller's place for the result.
        unsafe { put(groups, most_groups) }?;
        // SAFETY: the caller's place for the result.
        unsafe { put(block, most_block) }
    }

    /// A variable's address on the card.
    fn hipGetSymbolAddress(place: *mut *mut c_void, symbol: *const c_void) {
        let (address, _) = variable(symbol)?;
        // SAFETY: the caller's place for the result.
        unsafe { put(place, memory::pointer(address)) }
    }

    /// A variable's bytes.
    fn hipGetSymbolSize(place: *mut usize, symbol: *const c_void) {
        let (_, bytes) = variable(symbol)?;
        // SAFETY: the caller's place for the result.
        unsafe { put(place, bytes) }
    }

    /// Copies to a variable.
    fn hipMemcpyToSymbol(
        symbol: *const c_void, from: *const c_void, bytes: usize, offset: usize, kind: hipMemcpyKind,
    ) {
        let to = part(symbol, offset, bytes)?;
        // SAFETY: the caller's memory, and a part of the variable.
        unsafe { copy::copy_now(to, from, bytes, kind) }
    }

    /// Copies from a variable.
    fn hipMemcpyFromSymbol(
        to: *mut c_void, symbol: *const c_void, bytes: usize, offset: usize, kind: hipMemcpyKind,
    ) {
        let from = part(symbol, offset, bytes)?;
        // SAFETY: the caller's memory, and a part of the variable.
        unsafe { copy::copy_now(to, from, bytes, kind) }
    }

    /// Copies to a variable; done when it returns.
    fn hipMemcpyToSymbolAsync(
        symbol: *const c_void, from: *const c_void, bytes: usize, offset: usize, kind: hipMemcpyKind,
        on: hipStream_t,
    ) {
        let to = part(symbol, offset, bytes)?;
        // SAFETY: the caller's memory, and a part of the variable.
        unsafe { copy::copy_on(on, to, from, bytes, kind) }
    }

    /// Copies from a variable; done when it returns.
    fn hipMemcpyFromSymbolAsync(
        to: *mut c_void, symbol: *const c_void, bytes: usize, offset: usize, kind: hipMemcpyKind,
        on: hipStream_t,
    ) {
        let from = part(symbol, offset, bytes)?;
        // SAFETY: the caller's memory, and a part of the variable.
        unsafe { copy::copy_on(on, to, from, bytes, kind) }
    }
}
