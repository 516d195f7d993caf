use crate::decl::{ArgDecl, ArgKind, KernelDecl};
use crate::metadata::{ArgInfo, KernelInfo, ValueKind};
use crate::target::wavefront_size;
use crate::{CodeObject, HsacoError, TargetId};

/// Bytes of group memory that every supported processor gives a block.
const MAX_LDS: u32 = 65_536;

impl CodeObject<'_> {
    /// Compares this image with what `decl` says, for the target `arch` (`gfx1100`, `gfx11-generic`): target, symbols
    /// and descriptors, arguments by name, offset, size and kind, block limit, wave size, no spills, no scratch, group
    /// memory.
    ///
    /// # Errors
    /// The first difference, as its own variant of [`HsacoError`].
    pub fn check(&self, decl: &KernelDecl, arch: &str) -> Result<(), HsacoError> {
        let expected: TargetId = arch.parse()?;
        if *self.target() != expected {
            return Err(HsacoError::WrongTarget {
                expected: arch.to_owned(),
                found: self.target().to_string(),
            });
        }
        decl.symbols.iter().try_for_each(|symbol| self.check_kernel(decl, symbol))
    }

    fn check_kernel(&self, decl: &KernelDecl, symbol: &'static str) -> Result<(), HsacoError> {
        let kernel = self.kernels().iter().find(|kernel| kernel.name == symbol);
        let kernel = kernel.ok_or_else(|| HsacoError::MissingKernel {
            symbol,
            found: self.kernels().iter().map(|kernel| kernel.name.clone()).collect(),
        })?;
        for missing in [kernel.name.clone(), format!("{symbol}.kd")] {
            if !self.defines(&missing) {
                return Err(HsacoError::MissingSymbol { symbol, missing });
            }
        }
        check_args(decl, symbol, kernel)?;
        check_resources(decl, symbol, kernel)?;
        let expected = wavefront_size(&self.target().processor);
        if expected != Some(kernel.wavefront_size) {
            let (target, found) = (self.target().to_string(), kernel.wavefront_size);
            return Err(HsacoError::WavefrontSize { symbol, target, expected, found });
        }
        Ok(())
    }
}

fn check_args(decl: &KernelDecl, symbol: &'static str, kernel: &KernelInfo) -> Result<(), HsacoError> {
    let (expected, found) = (decl.args.len(), kernel.explicit_args().count());
    if expected != found {
        return Err(HsacoError::ArgCount { symbol, expected, found });
    }
    for (index, (declared, found)) in decl.args.iter().zip(kernel.explicit_args()).enumerate() {
        if !same_arg(declared, found) {
            let ArgDecl { name, offset, size, kind } = *declared;
            let found = found.clone();
            return Err(HsacoError::ArgMismatch { symbol, index, name, offset, size, kind, found });
        }
    }
    Ok(())
}

fn same_arg(declared: &ArgDecl, found: &ArgInfo) -> bool {
    let kind = match declared.kind {
        ArgKind::Pointer => ValueKind::GlobalBuffer,
        ArgKind::Value => ValueKind::ByValue,
    };
    found.name.as_deref() == Some(declared.name)
        && (found.offset, found.size) == (declared.offset, declared.size)
        && found.kind == kind
}

fn check_resources(decl: &KernelDecl, symbol: &'static str, kernel: &KernelInfo) -> Result<(), HsacoError> {
    if kernel.max_block < decl.max_block {
        return Err(HsacoError::BlockLimit { symbol, expected: decl.max_block, found: kernel.max_block });
    }
    let KernelInfo { sgpr_spills, vgpr_spills, scratch, lds, .. } = *kernel;
    if (sgpr_spills, vgpr_spills, scratch) != (0, 0, 0) {
        return Err(HsacoError::Spills { symbol, sgpr_spills, vgpr_spills, scratch });
    }
    if lds > MAX_LDS {
        return Err(HsacoError::Lds { symbol, limit: MAX_LDS, found: lds });
    }
    Ok(())
}
