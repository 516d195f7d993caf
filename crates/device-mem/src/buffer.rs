use std::ops::Range;

use crate::hip_memory::HipAllocation;
use crate::{Device, Element, HipView, HipViewMut, MappedFile, MemError};

/// `[len]` elements owned on one device. Not `Clone`: a copy costs a transfer, so it is asked for by
/// [`try_clone`](DeviceBuffer::try_clone).
#[derive(Debug)]
pub struct DeviceBuffer<T: Element> {
    storage: Storage<T>,
}

#[derive(Debug)]
enum Storage<T: Element> {
    Host(Vec<T>),
    /// Elements of a mapped file, proven aligned and inside it when the buffer was made.
    Mapped {
        file: MappedFile,
        bytes: Range<usize>,
    },
    Hip(HipAllocation<T>),
}

impl<T: Element> DeviceBuffer<T> {
    /// Moves `values` to the device. On the CPU nothing is copied; on HIP this is one upload.
    ///
    /// # Errors
    /// What the device reports when it cannot allocate or copy.
    pub fn from_host_vec(device: &Device, values: Vec<T>) -> Result<Self, MemError> {
        let storage = match device {
            Device::Cpu => Storage::Host(values),
            Device::Hip(hip) => Storage::Hip(HipAllocation::from_slice(hip, &values)?),
        };
        Ok(DeviceBuffer { storage })
    }

    /// `len` zeros.
    ///
    /// # Errors
    /// [`MemError::HostOutOfMemory`], or what the device reports.
    pub fn zeroed(device: &Device, len: usize) -> Result<Self, MemError> {
        let storage = match device {
            Device::Cpu => Storage::Host(host_zeros(len)?),
            Device::Hip(hip) => Storage::Hip(HipAllocation::zeroed(hip, len)?),
        };
        Ok(DeviceBuffer { storage })
    }

    /// The elements in `bytes` of a mapped file. On the CPU the buffer borrows the file when the elements are
    /// aligned, and copies them when not; on HIP this is one upload.
    ///
    /// # Errors
    /// [`MemError::MappedRange`] when the bytes are not whole elements inside the file.
    pub fn from_mapped(device: &Device, file: &MappedFile, bytes: Range<usize>) -> Result<Self, MemError> {
        let aligned = file.elements::<T>(bytes.clone())?;
        let storage = match (device, aligned) {
            (Device::Cpu, Some(_)) => Storage::Mapped { file: file.clone(), bytes },
            (Device::Cpu, None) => Storage::Host(file.copy_elements(bytes)?),
            (Device::Hip(hip), Some(elements)) => Storage::Hip(HipAllocation::from_slice(hip, elements)?),
            (Device::Hip(hip), None) => {
                Storage::Hip(HipAllocation::from_slice(hip, &file.copy_elements(bytes)?)?)
            }
        };
        Ok(DeviceBuffer { storage })
    }

    /// Elements.
    pub fn len(&self) -> usize {
        match &self.storage {
            Storage::Host(values) => values.len(),
            Storage::Mapped { bytes, .. } => bytes.len() / size_of::<T>(),
            Storage::Hip(allocation) => allocation.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The device that holds the elements.
    pub fn device(&self) -> Device {
        match &self.storage {
            Storage::Host(_) | Storage::Mapped { .. } => Device::Cpu,
            Storage::Hip(allocation) => Device::Hip(allocation.device().clone()),
        }
    }

    /// Borrows all elements.
    pub fn as_view(&self) -> View<'_, T> {
        match &self.storage {
            Storage::Host(values) => View::Host(values),
            Storage::Mapped { file, bytes } => View::Host(mapped_elements(file, bytes.clone())),
            Storage::Hip(allocation) => View::Hip(allocation.as_view()),
        }
    }

    /// Borrows all elements for writing.
    ///
    /// # Errors
    /// [`MemError::ReadOnly`] when the buffer borrows a mapped file.
    pub fn as_view_mut(&mut self) -> Result<ViewMut<'_, T>, MemError> {
        match &mut self.storage {
            Storage::Host(values) => Ok(ViewMut::Host(values)),
            Storage::Mapped { .. } => Err(MemError::ReadOnly),
            Storage::Hip(allocation) => Ok(ViewMut::Hip(allocation.as_view_mut())),
        }
    }

    /// Borrows a range of elements.
    ///
    /// # Errors
    /// [`MemError::OutOfRange`].
    pub fn view(&self, range: Range<usize>) -> Result<View<'_, T>, MemError> {
        self.as_view().slice(range)
    }

    /// Borrows a range of elements for writing.
    ///
    /// # Errors
    /// [`MemError::OutOfRange`], [`MemError::ReadOnly`].
    pub fn view_mut(&mut self, range: Range<usize>) -> Result<ViewMut<'_, T>, MemError> {
        self.as_view_mut()?.slice(range)
    }

    /// Copies the elements to the host. On HIP this is one download, after everything launched so far.
    ///
    /// # Errors
    /// What the device reports.
    pub fn to_host_vec(&self) -> Result<Vec<T>, MemError> {
        self.as_view().to_host_vec()
    }

    /// A second buffer with the same elements on the same device.
    ///
    /// # Errors
    /// What the device reports.
    pub fn try_clone(&self) -> Result<Self, MemError> {
        let storage = match &self.storage {
            Storage::Host(values) => Storage::Host(values.clone()),
            Storage::Mapped { file, bytes } => Storage::Host(mapped_elements(file, bytes.clone()).to_vec()),
            Storage::Hip(allocation) => Storage::Hip(allocation.try_clone()?),
        };
        Ok(DeviceBuffer { storage })
    }
}

/// A borrowed range of elements.
#[derive(Clone, Copy, Debug)]
pub enum View<'a, T: Element> {
    /// In host memory.
    Host(&'a [T]),
    /// On a HIP device.
    Hip(HipView<'a, T>),
}

impl<'a, T: Element> View<'a, T> {
    /// Elements.
    pub fn len(&self) -> usize {
        match self {
            View::Host(values) => values.len(),
            View::Hip(view) => view.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The device that holds the elements.
    pub fn device(&self) -> Device {
        match self {
            View::Host(_) => Device::Cpu,
            View::Hip(view) => Device::Hip(view.device().clone()),
        }
    }

    /// Narrows to a range.
    ///
    /// # Errors
    /// [`MemError::OutOfRange`].
    pub fn slice(self, range: Range<usize>) -> Result<View<'a, T>, MemError> {
        let len = self.len();
        let outside = MemError::OutOfRange { range: range.clone(), len };
        match self {
            View::Host(values) => values.get(range).map(View::Host).ok_or(outside),
            View::Hip(view) => view.slice(range).map(View::Hip).ok_or(outside),
        }
    }

    /// Copies the elements to the host; one download on HIP.
    ///
    /// # Errors
    /// What the device reports.
    pub fn to_host_vec(&self) -> Result<Vec<T>, MemError> {
        match self {
            View::Host(values) => Ok(values.to_vec()),
            View::Hip(view) => view.to_host_vec(),
        }
    }
}

/// A range of elements borrowed for writing.
#[derive(Debug)]
pub enum ViewMut<'a, T: Element> {
    /// In host memory.
    Host(&'a mut [T]),
    /// On a HIP device.
    Hip(HipViewMut<'a, T>),
}

impl<'a, T: Element> ViewMut<'a, T> {
    /// Elements.
    pub fn len(&self) -> usize {
        match self {
            ViewMut::Host(values) => values.len(),
            ViewMut::Hip(view) => view.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The device that holds the elements.
    pub fn device(&self) -> Device {
        match self {
            ViewMut::Host(_) => Device::Cpu,
            ViewMut::Hip(view) => Device::Hip(view.device().clone()),
        }
    }

    /// Borrows again, for a shorter time.
    pub fn reborrow(&mut self) -> ViewMut<'_, T> {
        match self {
            ViewMut::Host(values) => ViewMut::Host(values),
            ViewMut::Hip(view) => ViewMut::Hip(view.reborrow()),
        }
    }

    /// Borrows for reading only.
    pub fn as_view(&self) -> View<'_, T> {
        match self {
            ViewMut::Host(values) => View::Host(values),
            ViewMut::Hip(view) => View::Hip(view.as_view()),
        }
    }

    /// Narrows to a range.
    ///
    /// # Errors
    /// [`MemError::OutOfRange`].
    pub fn slice(self, range: Range<usize>) -> Result<ViewMut<'a, T>, MemError> {
        let outside = MemError::OutOfRange { range: range.clone(), len: self.len() };
        match self {
            ViewMut::Host(values) => values.get_mut(range).map(ViewMut::Host).ok_or(outside),
            ViewMut::Hip(view) => view.slice(range).map(ViewMut::Hip).ok_or(outside),
        }
    }

    /// Overwrites the elements; one upload on HIP.
    ///
    /// # Errors
    /// [`MemError::Length`] when `values` has another length, or what the device reports.
    pub fn copy_from_host(&mut self, values: &[T]) -> Result<(), MemError> {
        if values.len() != self.len() {
            return Err(MemError::Length { what: "the source", expected: self.len(), found: values.len() });
        }
        match self {
            ViewMut::Host(target) => target.copy_from_slice(values),
            ViewMut::Hip(view) => view.copy_from_host(values)?,
        }
        Ok(())
    }
}

fn mapped_elements<T: Element>(file: &MappedFile, bytes: Range<usize>) -> &[T] {
    // A mapping neither moves nor shrinks, so what held in `from_mapped` holds still.
    file.elements(bytes).ok().flatten().unwrap_or_default()
}

/// Zeros that the operating system gives on first touch.
pub(crate) fn host_zeros<T: Element>(len: usize) -> Result<Vec<T>, MemError> {
    let bytes = len.saturating_mul(size_of::<T>());
    bytemuck::allocation::try_zeroed_vec(len).map_err(|()| MemError::HostOutOfMemory { bytes })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn views_narrow_and_refuse_what_lies_outside() {
        let mut buffer = DeviceBuffer::from_host_vec(&Device::Cpu, vec![0_u32, 1, 2, 3, 4]).unwrap();
        assert_eq!(buffer.view(1..4).unwrap().slice(1..3).unwrap().to_host_vec().unwrap(), [2, 3]);
        #[expect(clippy::reversed_empty_ranges, reason = "callers may compute one")]
        for range in [0..6, 6..6, 4..2] {
            let found = buffer.view(range.clone()).unwrap_err().to_string();
            assert!(found.contains("buffer of 5 elements"), "{found}");
            assert!(buffer.view_mut(range).is_err());
        }
    }

    #[test]
    fn a_short_source_leaves_the_buffer_as_it_was() {
        let mut buffer = DeviceBuffer::from_host_vec(&Device::Cpu, vec![1.0_f32, 2.0]).unwrap();
        let error = buffer.as_view_mut().unwrap().copy_from_host(&[9.0]).unwrap_err();
        assert!(matches!(error, MemError::Length { expected: 2, found: 1, .. }), "{error}");
        assert_eq!(buffer.to_host_vec().unwrap(), [1.0, 2.0]);
    }

    #[test]
    fn mapped_buffers_read_but_refuse_writes_until_cloned() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytemuck::cast_slice(&[1.0_f32, 2.0, 3.0])).unwrap();
        let mapped = MappedFile::open(file.path()).unwrap();
        let mut buffer = DeviceBuffer::<f32>::from_mapped(&Device::Cpu, &mapped, 4..12).unwrap();
        assert_eq!((buffer.len(), buffer.to_host_vec().unwrap()), (2, vec![2.0, 3.0]));
        assert!(matches!(buffer.as_view_mut(), Err(MemError::ReadOnly)));
        let mut copy = buffer.try_clone().unwrap();
        copy.as_view_mut().unwrap().copy_from_host(&[5.0, 6.0]).unwrap();
        assert_eq!(buffer.to_host_vec().unwrap(), [2.0, 3.0]);
    }

    #[test]
    fn an_impossible_length_is_an_error_not_an_abort() {
        let error = DeviceBuffer::<f32>::zeroed(&Device::Cpu, usize::MAX / 8).unwrap_err();
        assert!(matches!(error, MemError::HostOutOfMemory { .. }), "{error}");
    }

    /// Also such as end before they start.
    fn ranges() -> impl Strategy<Value = Range<usize>> {
        (0..24_usize, 0..24_usize).prop_map(|(start, end)| start..end)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn views_are_what_slices_are(values in vec(any::<u32>(), 0..20), first in ranges(), second in ranges()) {
            let mut buffer = DeviceBuffer::from_host_vec(&Device::Cpu, values.clone()).unwrap();
            let (expected, view) = (values.get(first.clone()), buffer.view(first.clone()));
            prop_assert_eq!(view.is_ok(), expected.is_some());
            if let (Ok(view), Some(expected)) = (view, expected) {
                prop_assert_eq!(view.to_host_vec().unwrap(), expected);
                let (narrow, expected) = (view.slice(second.clone()), expected.get(second));
                prop_assert_eq!(narrow.is_ok(), expected.is_some());
                if let (Ok(narrow), Some(expected)) = (narrow, expected) {
                    prop_assert_eq!(narrow.to_host_vec().unwrap(), expected);
                }
            }
            let (mut changed, is_inside) = (values.clone(), values.get(first.clone()).is_some());
            match buffer.view_mut(first.clone()) {
                Err(_) => prop_assert!(!is_inside),
                Ok(mut view) => {
                    let ones = vec![1; first.len()];
                    view.copy_from_host(&ones).unwrap();
                    changed[first].copy_from_slice(&ones);
                }
            }
            prop_assert_eq!(buffer.to_host_vec().unwrap(), changed);
        }
    }
}
