use std::sync::atomic::{AtomicU64, Ordering};

/// What one device has done since it was opened; what HIP refused is not counted. The CPU moves nothing, so its counts
/// stay zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transfers {
    /// Copies from host to device.
    pub uploads: u64,
    /// Bytes of these copies.
    pub uploaded_bytes: u64,
    /// Copies from device to host.
    pub downloads: u64,
    /// Bytes of these copies.
    pub downloaded_bytes: u64,
    /// Kernel launches, those that a graph repeats included.
    pub launches: u64,
    /// Launches of graphs, each of which is one call for all its kernels.
    pub graph_launches: u64,
    /// Waits for the stream or the device, those inside uploads and downloads included.
    pub synchronisations: u64,
    /// Allocations of device memory.
    pub allocations: u64,
    /// Errors met while something was dropped. The next operation returns the first of them.
    pub drop_errors: u64,
    /// Bytes of host memory that are never given back, because a copy whose end nobody knows may still write them.
    pub quarantined_bytes: u64,
}

/// The live counts behind [`Transfers`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    uploads: AtomicU64,
    uploaded_bytes: AtomicU64,
    downloads: AtomicU64,
    downloaded_bytes: AtomicU64,
    launches: AtomicU64,
    graph_launches: AtomicU64,
    synchronisations: AtomicU64,
    allocations: AtomicU64,
    drop_errors: AtomicU64,
    quarantined_bytes: AtomicU64,
}

impl Counters {
    pub(crate) fn uploaded(&self, bytes: usize) {
        self.uploads.fetch_add(1, Ordering::Relaxed);
        self.uploaded_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn downloaded(&self, bytes: usize) {
        self.downloads.fetch_add(1, Ordering::Relaxed);
        self.downloaded_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn launched(&self) {
        self.launches.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn launched_graph(&self, launches: u64) {
        self.graph_launches.fetch_add(1, Ordering::Relaxed);
        self.launches.fetch_add(launches, Ordering::Relaxed);
    }

    pub(crate) fn synchronised(&self) {
        self.synchronisations.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn allocated(&self) {
        self.allocations.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn failed_in_drop(&self) {
        self.drop_errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn quarantined(&self, bytes: usize) {
        self.quarantined_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Transfers {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Transfers {
            uploads: read(&self.uploads),
            uploaded_bytes: read(&self.uploaded_bytes),
            downloads: read(&self.downloads),
            downloaded_bytes: read(&self.downloaded_bytes),
            launches: read(&self.launches),
            graph_launches: read(&self.graph_launches),
            synchronisations: read(&self.synchronisations),
            allocations: read(&self.allocations),
            drop_errors: read(&self.drop_errors),
            quarantined_bytes: read(&self.quarantined_bytes),
        }
    }
}
