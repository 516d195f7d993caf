use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use hip_ffi::sys::{hipDeviceAttribute_t, hipFunction_t, hipModule_t, hipStream_t};
use hip_ffi::{ErrorClass, GraphApi, HipApi, HipError, result};
use hsaco::{ImageSet, KernelDecl};

use crate::breaker::Breaker;
use crate::calls::Call;
use crate::failures::Failures;
use crate::graph::Recording;
use crate::progress::Progress;
use crate::transfers::Counters;
use crate::wait::Deadline;
use crate::{Failure, MemError, SharedMemory, Transfers};

/// A device behind HIP's C API, with the one stream that all its work goes through.
///
/// Program order is stream order. Every operation binds the device to the calling thread first. Waits poll, and end at a
/// [deadline](HipDevice::set_deadline), after which the device counts as lost. After an error of class [`ErrorClass::Lost`] no
/// HIP call is made any more, for any device of a library that was loaded: operations return [`MemError::Lost`], and what was
/// allocated is left to the end of the process.
pub struct HipDevice {
    api: HipApi,
    ordinal: i32,
    properties: HipProperties,
    pub(crate) stream: hipStream_t,
    pub(crate) counters: Counters,
    pub(crate) recording: Recording,
    pub(crate) deadline: Deadline,
    pub(crate) progress: Progress,
    /// Open once the device is lost.
    pub(crate) breaker: Arc<Breaker>,
    failures: Failures,
    /// The first error of a `Drop` since the last operation, which tells it.
    deferred: Mutex<Option<HipError>>,
    modules: Mutex<Vec<LoadedModule>>,
}

// SAFETY: HIP's functions may be called from any thread once the device is bound to it, which every operation does;
// its stream, module and function handles are valid process-wide. The rest of the fields is Send.
unsafe impl Send for HipDevice {}
// SAFETY: as above; HIP serialises calls on one stream, and the mutable fields are atomics or behind a mutex.
unsafe impl Sync for HipDevice {}

/// What HIP says about a device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HipProperties {
    /// Marketing name.
    pub name: String,
    /// Full target, `gfx90a:sramecc+:xnack-`; `sm_90` on NVIDIA's platform.
    pub arch: String,
    /// Lanes of a wavefront.
    pub wavefront_size: u32,
    /// Bytes of device memory.
    pub total_memory: usize,
    /// The most threads of a block.
    pub max_block: u32,
    /// Multiprocessors, each of which runs blocks of its own.
    pub units: u32,
    /// Bus and device number on the PCI bus of a GPU that shares the CPU's memory; `None` of one with its own.
    pub integrated_at: Option<(u8, u8)>,
}

#[derive(Debug)]
struct LoadedModule {
    decl: KernelDecl,
    handle: hipModule_t,
    /// Asked for so far.
    functions: Vec<(&'static str, hipFunction_t)>,
    /// HIP may read the image until the module is unloaded.
    _image: Cow<'static, [u8]>,
}

impl HipDevice {
    /// Opens device `ordinal` of whatever fills `api`.
    ///
    /// # Errors
    /// [`MemError::Ordinal`] when HIP sees fewer devices, or the [`MemError::Hip`] of the call that failed; without any
    /// device that is of class [`ErrorClass::Unavailable`].
    pub(crate) fn open(api: HipApi, ordinal: u32) -> Result<Arc<HipDevice>, MemError> {
        // In-process functions are no library's, so what one device of theirs loses is lost to it alone.
        let breaker = if api.library.is_some() { Breaker::of_libraries() } else { Arc::new(Breaker::new()) };
        let device = format!("hip:{ordinal}");
        if let Some(source) = breaker.cause() {
            return Err(MemError::Lost { device, source });
        }
        let opening = |source: HipError| {
            if source.class() == ErrorClass::Lost {
                breaker.open(&source);
                keep_loaded(&api);
            }
            MemError::Hip { device: device.clone(), source, work: None }
        };
        let _call = Call::begin();
        let visible = result::device_count(&api).map_err(opening)?;
        let index = i32::try_from(ordinal).ok().filter(|_| ordinal < visible);
        let index = index.ok_or(MemError::Ordinal { ordinal, visible })?;
        result::set_device(&api, index).map_err(opening)?;
        let properties = read_properties(&api, index).map_err(opening)?;
        let stream = result::stream_create(&api).map_err(opening)?;
        Ok(Arc::new(HipDevice {
            api,
            ordinal: index,
            properties,
            stream,
            counters: Counters::default(),
            recording: Recording::default(),
            deadline: Deadline::default(),
            progress: Progress::default(),
            breaker: breaker.clone(),
            failures: Failures::default(),
            deferred: Mutex::new(None),
            modules: Mutex::new(Vec::new()),
        }))
    }

    /// What HIP says about the device.
    pub fn properties(&self) -> &HipProperties {
        &self.properties
    }

    /// Whether an error of class [`ErrorClass::Lost`] has ended the device's use in this process.
    pub fn is_lost(&self) -> bool {
        self.breaker.cause().is_some()
    }

    /// The calls that have failed since the device was opened, by function and code, those of a `Drop` included.
    pub fn failures(&self) -> Vec<Failure> {
        self.failures.read()
    }

    /// Whether a subscriber of `tracing` sees each launch. Those of a [`Graph`](crate::Graph) it would see only as one.
    pub fn is_traced(&self) -> bool {
        tracing::span_enabled!(tracing::Level::TRACE)
    }

    /// What has been moved and launched since the device was opened.
    pub fn transfers(&self) -> Transfers {
        self.counters.read()
    }

    /// Bytes of memory that can still be allocated: what HIP says, but of a GPU that shares the CPU's memory no more than
    /// [`SharedMemory::room`].
    ///
    /// # Errors
    /// What the device reports.
    pub fn free_memory(&self) -> Result<u64, MemError> {
        let (free, _) = self.call(result::memory_info)?;
        let room = self.shared_memory().map_or(u64::MAX, |memory| memory.room());
        Ok(room.min(free as u64))
    }

    /// The memory that an integrated GPU shares with the CPU; `None` of a card with its own, and where the operating system
    /// does not tell.
    pub fn shared_memory(&self) -> Option<SharedMemory> {
        SharedMemory::read(Path::new("/"), self.properties.integrated_at?)
    }

    /// Waits until everything launched so far is done. Errors of earlier launches come out here.
    ///
    /// # Errors
    /// What the device reports.
    pub fn synchronize(&self) -> Result<(), MemError> {
        self.expect_no_recording()?;
        let _span = tracing::trace_span!("wait").entered();
        self.call(|api| self.wait(api))?;
        self.counters.synchronised();
        Ok(())
    }

    /// The functions for graphs, where the library has them.
    pub(crate) fn graph_api(&self) -> Option<GraphApi> {
        self.api.graph
    }

    /// Runs HIP calls: refuses after a loss and while another thread records, tells what a `Drop` met, binds the device,
    /// notes an error.
    pub(crate) fn call<R>(&self, run: impl FnOnce(&HipApi) -> Result<R, HipError>) -> Result<R, MemError> {
        self.outside_recordings(|| self.call_unguarded(run))
    }

    /// As [`HipDevice::call`], whoever records.
    pub(crate) fn call_unguarded<R>(
        &self,
        run: impl FnOnce(&HipApi) -> Result<R, HipError>,
    ) -> Result<R, MemError> {
        self.refuse_if_lost()?;
        let deferred = self.deferred.lock().unwrap_or_else(PoisonError::into_inner).take();
        let done = match deferred {
            Some(error) => Err(error),
            None => self.bound(run),
        };
        let work = || self.progress.last().map(Box::new);
        done.map_err(|source| MemError::Hip { device: self.to_string(), source, work: work() })
    }

    fn refuse_if_lost(&self) -> Result<(), MemError> {
        match self.breaker.cause() {
            Some(source) => Err(MemError::Lost { device: self.to_string(), source }),
            None => Ok(()),
        }
    }

    /// As [`HipDevice::call`], for `Drop`: an error is counted and kept for the next operation. HIP takes things back whichever
    /// device is bound, so they are given back also when binding is refused.
    pub(crate) fn call_in_drop(&self, run: impl FnOnce(&HipApi) -> Result<(), HipError>) {
        if self.is_lost() {
            return;
        }
        let _call = Call::begin();
        let mut first = None;
        if let Err(error) = self.noted(result::set_device(&self.api, self.ordinal)) {
            first = Some(error);
        }
        if !self.is_lost()
            && let Err(error) = self.noted(run(&self.api))
        {
            first = first.or(Some(error));
        }
        if let Some(error) = first {
            self.counters.failed_in_drop();
            self.deferred.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }

    /// Binds the device to this thread and runs HIP calls.
    fn bound<R>(&self, run: impl FnOnce(&HipApi) -> Result<R, HipError>) -> Result<R, HipError> {
        let _call = Call::begin();
        self.noted(result::set_device(&self.api, self.ordinal).and_then(|()| run(&self.api)))
    }

    /// Counts an error. A loss ends the device; any other error is taken back from the thread, where HIP keeps it for whoever
    /// asks next.
    fn noted<R>(&self, done: Result<R, HipError>) -> Result<R, HipError> {
        if let Err(error) = &done {
            self.failures.note(error);
            if error.class() == ErrorClass::Lost {
                self.breaker.open(error);
            } else {
                // It says again what `error` says.
                let _ = result::take_last_error(&self.api);
            }
        }
        done
    }

    /// The function of `symbol` in the image of this card. The image is loaded once per device and the function looked up
    /// once, so that asking again makes no HIP call.
    pub(crate) fn function(
        &self,
        images: &ImageSet,
        symbol: &'static str,
    ) -> Result<hipFunction_t, MemError> {
        self.refuse_if_lost()?;
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        let module = self.module(&mut modules, images)?;
        if let Some((_, function)) = module.functions.iter().find(|(known, _)| *known == symbol) {
            return Ok(*function);
        }
        let name = std::ffi::CString::new(symbol).map_err(|_| MemError::Symbol { symbol })?;
        let handle = module.handle;
        // SAFETY: modules live as long as the device.
        let function = self.call(|api| unsafe { result::module_get_function(api, handle, &name) })?;
        module.functions.push((symbol, function));
        Ok(function)
    }

    fn module<'a>(
        &self,
        modules: &'a mut Vec<LoadedModule>,
        images: &ImageSet,
    ) -> Result<&'a mut LoadedModule, MemError> {
        let loaded = modules.iter().position(|module| module.decl == images.decl);
        let index = match loaded {
            Some(index) => index,
            None => {
                modules.push(self.load_module(images)?);
                modules.len() - 1
            }
        };
        Ok(&mut modules[index])
    }

    fn load_module(&self, images: &ImageSet) -> Result<LoadedModule, MemError> {
        let image = images.load(&self.properties.arch)?.bytes;
        let start = image.as_ptr().cast();
        // SAFETY: `load` parsed and checked the whole object, so its headers end inside these bytes, which are kept until
        // the module is unloaded.
        let handle = self.call(|api| unsafe { result::module_load_data(api, start) })?;
        Ok(LoadedModule { decl: images.decl, handle, functions: Vec::new(), _image: image })
    }
}

/// Keeps the library in the process to its end: unloading one that has lost a device may wait for ever.
fn keep_loaded(api: &HipApi) {
    std::mem::forget(api.library.clone());
}

fn read_properties(api: &HipApi, ordinal: i32) -> Result<HipProperties, HipError> {
    let names = result::device_names(api, ordinal)?;
    let attribute = |attribute| {
        let value = result::device_attribute(api, attribute, ordinal)?;
        Ok(u32::try_from(value).unwrap_or(0))
    };
    let (_, total_memory) = result::memory_info(api)?;
    let integrated_at = if attribute(hipDeviceAttribute_t::hipDeviceAttributeIntegrated)? == 0 {
        None
    } else {
        let bus = attribute(hipDeviceAttribute_t::hipDeviceAttributePciBusId)?;
        let device = attribute(hipDeviceAttribute_t::hipDeviceAttributePciDeviceId)?;
        u8::try_from(bus).ok().zip(u8::try_from(device).ok())
    };
    Ok(HipProperties {
        name: names.name,
        arch: names.arch,
        wavefront_size: attribute(hipDeviceAttribute_t::hipDeviceAttributeWarpSize)?,
        total_memory,
        max_block: attribute(hipDeviceAttribute_t::hipDeviceAttributeMaxThreadsPerBlock)?,
        units: attribute(hipDeviceAttribute_t::hipDeviceAttributeMultiprocessorCount)?,
        integrated_at,
    })
}

/// What a device is asked for by: HIP's two platforms, of which NVIDIA's names targets by compute capability.
fn platform(arch: &str) -> &'static str {
    if arch.starts_with("sm_") { "cuda" } else { "hip" }
}

impl Drop for HipDevice {
    fn drop(&mut self) {
        let modules = std::mem::take(self.modules.get_mut().unwrap_or_else(PoisonError::into_inner));
        for module in &modules {
            // SAFETY: this device loaded the module, and kernels of it hold the device, so none is left.
            let unload = |api: &HipApi| unsafe { result::module_unload(api, module.handle) };
            self.call_in_drop(|api| self.release(api, unload));
        }
        // SAFETY: `open` made the stream, and whatever could use it holds the device, so none is left.
        let destroy = |api: &HipApi| unsafe { result::stream_destroy(api, self.stream) };
        self.call_in_drop(|api| self.release(api, destroy));
        if self.is_lost() {
            keep_loaded(&self.api);
            // The modules were not unloaded, so HIP may still read their images.
            std::mem::forget(modules);
        }
    }
}

impl fmt::Display for HipDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HipProperties { name, arch, .. } = &self.properties;
        write!(f, "{}:{} ({name}, {arch})", platform(arch), self.ordinal)
    }
}

impl fmt::Debug for HipDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HipDevice")
            .field("ordinal", &self.ordinal)
            .field("properties", &self.properties)
            .field("lost", &self.is_lost())
            .finish_non_exhaustive()
    }
}
