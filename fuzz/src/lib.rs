//! What targets share.

use hsaco::KernelPointer;

hsaco::kernel! {
    /// `y[i] = factor * x[i]` for `i < length`.
    pub struct ScaleArgs: "scale" => [scale], variable "SCALE_HSACO", max_block 256 {
        /// `[length]`, written.
        y: KernelPointer,
        /// `[length]`.
        x: KernelPointer,
        /// Factor of `x`.
        factor: f32,
        /// Elements.
        length: u64,
    }
}
