use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use crate::{Element, MemError, Transfers};

/// A device behind HIP's C API.
#[derive(Debug)]
pub struct HipDevice {
    never: Infallible,
}

impl HipDevice {
    pub(crate) fn transfers(&self) -> Transfers {
        match self.never {}
    }
}

impl fmt::Display for HipDevice {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.never {}
    }
}

/// `[len]` elements of device memory, freed when dropped.
#[derive(Debug)]
pub(crate) struct HipAllocation<T> {
    device: Arc<HipDevice>,
    element: PhantomData<T>,
}

impl<T: Element> HipAllocation<T> {
    pub(crate) fn from_slice(device: &Arc<HipDevice>, _: &[T]) -> Result<Self, MemError> {
        match device.never {}
    }
    pub(crate) fn zeroed(device: &Arc<HipDevice>, _: usize) -> Result<Self, MemError> {
        match device.never {}
    }
    pub(crate) fn device(&self) -> &Arc<HipDevice> {
        &self.device
    }
    pub(crate) fn len(&self) -> usize {
        match self.device.never {}
    }
    pub(crate) fn try_clone(&self) -> Result<Self, MemError> {
        match self.device.never {}
    }
    pub(crate) fn as_view(&self) -> HipView<'_, T> {
        match self.device.never {}
    }
    pub(crate) fn as_view_mut(&mut self) -> HipViewMut<'_, T> {
        match self.device.never {}
    }
}

/// Elements of device memory, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct HipView<'a, T: Element> {
    allocation: &'a HipAllocation<T>,
}

impl<'a, T: Element> HipView<'a, T> {
    pub(crate) fn len(&self) -> usize {
        match self.allocation.device.never {}
    }
    pub(crate) fn device(&self) -> &Arc<HipDevice> {
        &self.allocation.device
    }
    pub(crate) fn slice(self, _: Range<usize>) -> Option<HipView<'a, T>> {
        match self.allocation.device.never {}
    }
    pub(crate) fn to_host_vec(self) -> Result<Vec<T>, MemError> {
        match self.allocation.device.never {}
    }
}

/// Elements of device memory, borrowed for writing.
#[derive(Debug)]
pub struct HipViewMut<'a, T: Element> {
    allocation: &'a HipAllocation<T>,
}

impl<'a, T: Element> HipViewMut<'a, T> {
    pub(crate) fn len(&self) -> usize {
        match self.allocation.device.never {}
    }
    pub(crate) fn device(&self) -> &Arc<HipDevice> {
        &self.allocation.device
    }
    pub(crate) fn slice(self, _: Range<usize>) -> Option<HipViewMut<'a, T>> {
        match self.allocation.device.never {}
    }
    pub(crate) fn reborrow(&mut self) -> HipViewMut<'_, T> {
        match self.allocation.device.never {}
    }
    pub(crate) fn as_view(&self) -> HipView<'_, T> {
        match self.allocation.device.never {}
    }
    pub(crate) fn copy_from_host(&mut self, _: &[T]) -> Result<(), MemError> {
        match self.allocation.device.never {}
    }
}
