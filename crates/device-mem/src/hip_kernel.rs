use std::ffi::c_void;
use std::marker::PhantomData;
use std::sync::Arc;

use hip_ffi::result;
use hip_ffi::sys::hipFunction_t;
use hsaco::{ImageSet, KernelArgs};

use crate::progress::Work;
use crate::{HipDevice, MemError};

/// A kernel loaded on one device. It takes arguments of type `A` and nothing else.
#[derive(Clone, Debug)]
pub struct Kernel<A: KernelArgs> {
    device: Arc<HipDevice>,
    function: hipFunction_t,
    symbol: &'static str,
    args: PhantomData<fn(A)>,
}

// SAFETY: HIP's function handles are valid process-wide, and launches bind the device to the calling thread.
unsafe impl<A: KernelArgs> Send for Kernel<A> {}
// SAFETY: as above; a kernel is not changed by a launch.
unsafe impl<A: KernelArgs> Sync for Kernel<A> {}

/// The shape of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Blocks in x, y and z.
    pub blocks: [u32; 3],
    /// Threads of a block in x, y and z.
    pub threads: [u32; 3],
}

impl<A: KernelArgs> Kernel<A> {
    /// The most arguments a kernel may have.
    const MAX_ARGS: usize = 32;

    /// Loads `symbol` from the image for this card. The image is chosen, checked and loaded once per device.
    ///
    /// # Errors
    /// [`MemError::Symbol`] unless `A` and `images` declare the symbol, [`MemError::Image`] when no image fits the
    /// card, or what the device reports.
    pub fn load(
        device: &Arc<HipDevice>,
        images: &ImageSet,
        symbol: &'static str,
    ) -> Result<Kernel<A>, MemError> {
        const { assert!(A::DECL.args.len() <= Self::MAX_ARGS, "more arguments than a launch can pass") };
        if images.decl != A::DECL || !A::DECL.symbols.contains(&symbol) {
            return Err(MemError::Symbol { symbol });
        }
        let function = device.function(images, symbol)?;
        Ok(Kernel { device: device.clone(), function, symbol, args: PhantomData })
    }

    /// The device it is loaded on.
    pub fn device(&self) -> &Arc<HipDevice> {
        &self.device
    }

    /// Puts one launch into the device's stream and returns; errors of the kernel itself come out at a later call.
    ///
    /// The call is a span of `tracing` at level TRACE, named `launch`, with the kernel, its grid, `bytes` and its arguments. On a
    /// card the span ends when the launch stands in the stream, on the emulator when the kernel is done.
    ///
    /// `bytes` is what the operation has to move at least: what it reads and what it writes, once each. It is only told.
    ///
    /// # Errors
    /// [`MemError::Grid`] when the shape cannot be launched, or what the device reports.
    ///
    /// # Safety
    /// For these arguments and this grid the kernel reads and writes only memory of this device that the caller
    /// borrows accordingly, and that memory is freed only after the stream has been waited for.
    pub unsafe fn launch(&self, grid: Grid, bytes: usize, args: &A) -> Result<(), MemError> {
        self.check(grid)?;
        let base = std::ptr::from_ref(args).cast::<u8>();
        let mut parameters = [std::ptr::null_mut::<c_void>(); 32];
        for (parameter, arg) in parameters.iter_mut().zip(A::DECL.args) {
            *parameter = base.wrapping_add(arg.offset as usize).cast_mut().cast();
        }
        let parameters = parameters.get_mut(..A::DECL.args.len()).unwrap_or_default();
        let (device, Grid { blocks, threads }) = (&self.device, grid);
        let _launch =
            tracing::trace_span!("launch", kernel = self.symbol, ?blocks, ?threads, bytes, ?args).entered();
        device.progress.asked(Work::Kernel { symbol: self.symbol, blocks, threads });
        device.call(|api| {
            // SAFETY: function and stream live as long as the device, which `self` holds. `parameters` points at each
            // field of `args` in order: `KernelArgs` vouches for offset and size, and the image was checked against
            // the same declaration. HIP copies the arguments before it returns. The caller vouches for the kernel.
            unsafe {
                result::module_launch_kernel(api, self.function, blocks, threads, device.stream, parameters)
            }
        })?;
        device.count_launch();
        Ok(())
    }

    fn check(&self, grid: Grid) -> Result<(), MemError> {
        let Grid { blocks, threads } = grid;
        let max_block = A::DECL.max_block.min(self.device.properties().max_block);
        let block = threads.iter().try_fold(1_u32, |product, &count| product.checked_mul(count));
        let fits = block.is_some_and(|block| (1..=max_block).contains(&block));
        let counted = blocks
            .iter()
            .zip(threads)
            .all(|(&blocks, threads)| blocks > 0 && blocks.checked_mul(threads).is_some());
        if fits && counted {
            return Ok(());
        }
        Err(MemError::Grid { symbol: self.symbol, blocks, threads, max_block })
    }
}
