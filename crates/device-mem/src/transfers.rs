/// What one device has done since it was opened. The CPU moves nothing, so its counts stay zero.
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
    /// Kernel launches.
    pub launches: u64,
    /// Waits for the stream or the device, those inside uploads and downloads included.
    pub synchronisations: u64,
    /// Allocations of device memory.
    pub allocations: u64,
}
