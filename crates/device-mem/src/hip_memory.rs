use std::ffi::c_void;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

use hip_ffi::sys::hipMemcpyKind;
use hip_ffi::{ErrorClass, HipApi, result};
use hsaco::KernelPointer;

use crate::buffer::host_zeros;
use crate::{Element, HipDevice, MemError};

/// Memory of one device, counted. Callers prove the extents of addresses.
impl HipDevice {
    fn allocate(&self, bytes: NonZeroUsize) -> Result<u64, MemError> {
        self.expect_no_recording()?;
        let _span = tracing::trace_span!("allocate", bytes).entered();
        let pointer = self.call(|api| result::malloc(api, bytes))?;
        self.counters.allocated();
        Ok(pointer.addr() as u64)
    }

    /// Frees memory, once no graph is left that may use it.
    pub(crate) fn free(&self, address: u64) {
        if self.recording.keep(address) {
            return;
        }
        // SAFETY: the address is from `allocate`, its one owner drops it now or has done so, and no view of it is left.
        let free = |api: &HipApi| unsafe { result::free(api, pointer(address)) };
        self.call_in_drop(|api| self.release(api, free));
    }

    /// # Safety
    /// `bytes` bytes of device memory at `address` belong to the caller.
    unsafe fn fill_zero(&self, address: u64, bytes: usize) -> Result<(), MemError> {
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the caller vouches for the memory, which is freed only after the device has been waited for.
        self.call(|api| unsafe { result::memset_async(api, pointer(address), 0, bytes, self.stream) })
    }

    /// Copies `source` to the device and waits, so that the host may reuse it.
    ///
    /// # Safety
    /// `source.len()` bytes of device memory at `address` belong to the caller.
    unsafe fn upload(&self, address: u64, source: &[u8]) -> Result<(), MemError> {
        if source.is_empty() {
            return Ok(());
        }
        self.expect_no_recording()?;
        let _span = tracing::trace_span!("upload", bytes = source.len()).entered();
        let (from, kind) = (source.as_ptr().cast(), hipMemcpyKind::hipMemcpyHostToDevice);
        self.call(|api| {
            // A copy of pageable memory may wait for the stream itself, without an end.
            self.drain(api)?;
            // SAFETY: the caller vouches for the target; `source` is borrowed until the wait below is over. Where that gives
            // up, the device is lost, and what it may still read is no concern of this process.
            unsafe { result::memcpy_async(api, pointer(address), from, source.len(), kind, self.stream) }?;
            self.wait(api)
        })?;
        self.counters.uploaded(source.len());
        self.counters.synchronised();
        Ok(())
    }

    /// Copies from the device after everything launched so far.
    ///
    /// # Safety
    /// `len` elements of `T` at `address` belong to the caller and are initialised.
    unsafe fn download<T: Element>(&self, address: u64, len: usize) -> Result<Vec<T>, MemError> {
        let mut values = host_zeros::<T>(len)?;
        if len == 0 {
            return Ok(values);
        }
        self.expect_no_recording()?;
        let bytes = size_of_val(values.as_slice());
        let _span = tracing::trace_span!("download", bytes).entered();
        let (to, kind) = (values.as_mut_ptr().cast(), hipMemcpyKind::hipMemcpyDeviceToHost);
        let mut in_doubt = false;
        let copied = self.call(|api| {
            // As for an upload; and an error of earlier work comes out before the copy has a target.
            self.drain(api)?;
            // SAFETY: the caller vouches for the source; `values` holds `bytes` bytes and outlives the wait below, or is never
            // given back.
            unsafe { result::memcpy_async(api, to, pointer(address), bytes, kind, self.stream) }
                .inspect_err(|error| in_doubt = error.class() == ErrorClass::Lost)?;
            self.wait(api).inspect_err(|_| in_doubt = true)
        });
        if in_doubt {
            // The copy may still be under way: its target is not given back.
            std::mem::forget(std::mem::take(&mut values));
            self.counters.quarantined(bytes);
        }
        copied?;
        self.counters.downloaded(bytes);
        self.counters.synchronised();
        Ok(values)
    }

    /// # Safety
    /// `bytes` bytes at `target` and at `source` belong to the caller and do not overlap.
    unsafe fn copy_on_device(&self, target: u64, source: u64, bytes: usize) -> Result<(), MemError> {
        if bytes == 0 {
            return Ok(());
        }
        let (to, from, kind) = (pointer(target), pointer(source), hipMemcpyKind::hipMemcpyDeviceToDevice);
        // SAFETY: the caller vouches for both, and memory is freed only after the device has been waited for.
        self.call(|api| unsafe { result::memcpy_async(api, to, from, bytes, kind, self.stream) })
    }
}

/// A device address as HIP takes it. It is never read through on the host.
fn pointer(address: u64) -> *mut c_void {
    std::ptr::without_provenance_mut(usize::try_from(address).unwrap_or(0))
}

/// `[len]` elements of device memory, freed when dropped. Nothing is allocated for zero elements.
#[derive(Debug)]
pub(crate) struct HipAllocation<T: Element> {
    device: Arc<HipDevice>,
    /// Null if and only if `len` is 0.
    address: u64,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Element> HipAllocation<T> {
    pub(crate) fn from_slice(device: &Arc<HipDevice>, values: &[T]) -> Result<Self, MemError> {
        let allocation = HipAllocation::uninit(device, values.len())?;
        // SAFETY: the allocation was made for `values.len()` elements.
        unsafe { device.upload(allocation.address, bytemuck::cast_slice(values)) }?;
        Ok(allocation)
    }

    pub(crate) fn zeroed(device: &Arc<HipDevice>, len: usize) -> Result<Self, MemError> {
        let allocation = HipAllocation::<T>::uninit(device, len)?;
        // SAFETY: the allocation was made for `len` elements.
        unsafe { device.fill_zero(allocation.address, len * size_of::<T>()) }?;
        Ok(allocation)
    }

    /// Memory with no defined contents: every caller fills it before lending it.
    fn uninit(device: &Arc<HipDevice>, len: usize) -> Result<Self, MemError> {
        let bytes =
            len.checked_mul(size_of::<T>()).ok_or(MemError::TooLarge { elements: len, dtype: T::DTYPE })?;
        let address = match NonZeroUsize::new(bytes) {
            Some(bytes) => device.allocate(bytes)?,
            None => 0,
        };
        Ok(HipAllocation { device: device.clone(), address, len, element: PhantomData })
    }

    pub(crate) fn device(&self) -> &Arc<HipDevice> {
        &self.device
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn try_clone(&self) -> Result<Self, MemError> {
        let copy = HipAllocation::uninit(&self.device, self.len)?;
        // SAFETY: both allocations hold `len` elements, and a new one overlaps no other.
        unsafe { self.device.copy_on_device(copy.address, self.address, self.len * size_of::<T>()) }?;
        Ok(copy)
    }

    pub(crate) fn as_view(&self) -> HipView<'_, T> {
        HipView { device: &self.device, address: self.address, len: self.len, owner: PhantomData }
    }

    pub(crate) fn as_view_mut(&mut self) -> HipViewMut<'_, T> {
        HipViewMut { device: &self.device, address: self.address, len: self.len, owner: PhantomData }
    }
}

impl<T: Element> Drop for HipAllocation<T> {
    fn drop(&mut self) {
        if self.address != 0 {
            self.device.free(self.address);
        }
    }
}

/// Elements of device memory, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct HipView<'a, T: Element> {
    device: &'a Arc<HipDevice>,
    address: u64,
    len: usize,
    owner: PhantomData<&'a [T]>,
}

impl<'a, T: Element> HipView<'a, T> {
    /// The device that holds the elements.
    pub fn device(&self) -> &'a Arc<HipDevice> {
        self.device
    }

    /// Elements.
    #[expect(clippy::len_without_is_empty, reason = "View, which people use, has both")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes of all elements.
    pub fn bytes(&self) -> usize {
        self.len * size_of::<T>()
    }

    /// The first element's address, for a kernel that reads at most [`HipView::len`] elements.
    pub fn pointer(&self) -> KernelPointer {
        KernelPointer(self.address)
    }

    pub(crate) fn slice(self, range: Range<usize>) -> Option<HipView<'a, T>> {
        let (address, len) = narrowed::<T>(self.address, self.len, range)?;
        Some(HipView { address, len, ..self })
    }

    pub(crate) fn to_host_vec(self) -> Result<Vec<T>, MemError> {
        // SAFETY: the view borrows `len` elements, and allocations are filled before they are lent.
        unsafe { self.device.download(self.address, self.len) }
    }
}

/// Elements of device memory, borrowed for writing.
#[derive(Debug)]
pub struct HipViewMut<'a, T: Element> {
    device: &'a Arc<HipDevice>,
    address: u64,
    len: usize,
    owner: PhantomData<&'a mut [T]>,
}

impl<'a, T: Element> HipViewMut<'a, T> {
    /// The device that holds the elements.
    pub fn device(&self) -> &'a Arc<HipDevice> {
        self.device
    }

    /// Elements.
    #[expect(clippy::len_without_is_empty, reason = "ViewMut, which people use, has both")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes of all elements.
    pub fn bytes(&self) -> usize {
        self.len * size_of::<T>()
    }

    /// The first element's address, for a kernel that reads and writes at most [`HipViewMut::len`] elements.
    pub fn pointer(&mut self) -> KernelPointer {
        KernelPointer(self.address)
    }

    pub(crate) fn slice(self, range: Range<usize>) -> Option<HipViewMut<'a, T>> {
        let (address, len) = narrowed::<T>(self.address, self.len, range)?;
        Some(HipViewMut { address, len, ..self })
    }

    pub(crate) fn reborrow(&mut self) -> HipViewMut<'_, T> {
        HipViewMut { device: self.device, address: self.address, len: self.len, owner: PhantomData }
    }

    pub(crate) fn as_view(&self) -> HipView<'_, T> {
        HipView { device: self.device, address: self.address, len: self.len, owner: PhantomData }
    }

    pub(crate) fn copy_from_host(&mut self, values: &[T]) -> Result<(), MemError> {
        debug_assert_eq!(values.len(), self.len, "ViewMut compared the lengths");
        let fits = values.get(..self.len).unwrap_or(values);
        // SAFETY: the view borrows `len` elements for writing, and no more than these are copied.
        unsafe { self.device.upload(self.address, bytemuck::cast_slice(fits)) }
    }
}

fn narrowed<T>(address: u64, len: usize, range: Range<usize>) -> Option<(u64, usize)> {
    if range.start > range.end || range.end > len {
        return None;
    }
    let offset = u64::try_from(range.start * size_of::<T>()).ok()?;
    Some((address + offset, range.end - range.start))
}
