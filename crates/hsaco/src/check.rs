use crate::decl::{ArgDecl, ArgKind, KernelDecl};
use crate::metadata::{ArgInfo, KernelInfo, ValueKind};
use crate::target::{most_vgprs, wavefront_size};
use crate::{CodeObject, HsacoError, TargetId};

/// Bytes of group memory that every supported processor gives a block.
const MAX_LDS: u32 = 65_536;
/// Scalar registers of a wave, on every processor.
const MAX_SGPRS: u32 = 128;
/// An argument block is as long as its arguments, or rounded up to this.
const KERNARG_ALIGN: u32 = 16;

impl CodeObject<'_> {
    /// Compares this image with what `decl` says, for the target `arch` (`gfx1100`, `gfx11-generic`): target, symbols
    /// and descriptors, arguments by name, offset, size and kind, argument block, block limit, wave size, no spills, no
    /// scratch, group memory, registers.
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
        let kernel = check_kernel(decl, symbol, self.target(), self.kernels(), MAX_LDS)?;
        for missing in [kernel.name.clone(), format!("{symbol}.kd")] {
            if !self.defines(&missing) {
                return Err(HsacoError::MissingSymbol { symbol, missing });
            }
        }
        check_registers(symbol, kernel, most_vgprs(&self.target().processor))?;
        // Names are kept in code objects alone.
        let unnamed = kernel.explicit_args().zip(decl.args).enumerate();
        for (index, (found, declared)) in unnamed {
            if found.name.as_deref() != Some(declared.name) {
                return Err(arg_mismatch(symbol, index, declared, found));
            }
        }
        Ok(())
    }
}

/// The kernel that is called `symbol`, compared with its declaration in all but its arguments' names.
pub(crate) fn check_kernel<'k>(
    decl: &KernelDecl,
    symbol: &'static str,
    target: &TargetId,
    kernels: &'k [KernelInfo],
    max_lds: u32,
) -> Result<&'k KernelInfo, HsacoError> {
    let kernel = kernels.iter().find(|kernel| kernel.name == symbol);
    let kernel = kernel.ok_or_else(|| HsacoError::MissingKernel {
        symbol,
        found: kernels.iter().map(|kernel| kernel.name.clone()).collect(),
    })?;
    check_args(decl, symbol, kernel)?;
    check_resources(decl, symbol, kernel, max_lds)?;
    let expected = wavefront_size(&target.processor);
    if expected != Some(kernel.wavefront_size) {
        let (target, found) = (target.to_string(), kernel.wavefront_size);
        return Err(HsacoError::WavefrontSize { symbol, target, expected, found });
    }
    Ok(kernel)
}

fn check_args(decl: &KernelDecl, symbol: &'static str, kernel: &KernelInfo) -> Result<(), HsacoError> {
    let (expected, found) = (decl.args.len(), kernel.explicit_args().count());
    if expected != found {
        return Err(HsacoError::ArgCount { symbol, expected, found });
    }
    for (index, (declared, found)) in decl.args.iter().zip(kernel.explicit_args()).enumerate() {
        if !same_arg(declared, found) {
            return Err(arg_mismatch(symbol, index, declared, found));
        }
    }
    check_kernarg_size(decl, symbol, kernel)
}

/// A launch hands over what is declared: a kernel that reads more would read what is not there.
fn check_kernarg_size(
    decl: &KernelDecl,
    symbol: &'static str,
    kernel: &KernelInfo,
) -> Result<(), HsacoError> {
    let expected = decl.args.iter().map(|arg| arg.offset + arg.size).max().unwrap_or(0);
    let found = kernel.kernarg_size;
    // Hidden arguments stand behind the declared ones, and the runtime fills them.
    let hidden = kernel.args.len() > kernel.explicit_args().count();
    let fits = found >= expected && (hidden || found <= expected.next_multiple_of(KERNARG_ALIGN));
    if fits { Ok(()) } else { Err(HsacoError::KernargSize { symbol, expected, found }) }
}

fn check_registers(symbol: &'static str, kernel: &KernelInfo, most_vgprs: u32) -> Result<(), HsacoError> {
    let counts = [("scalar", kernel.sgprs, MAX_SGPRS), ("vector", kernel.vgprs, most_vgprs)];
    match counts.into_iter().find(|(_, found, limit)| found > limit) {
        Some((kind, found, limit)) => Err(HsacoError::Registers { symbol, kind, limit, found }),
        None => Ok(()),
    }
}

fn arg_mismatch(symbol: &'static str, index: usize, declared: &ArgDecl, found: &ArgInfo) -> HsacoError {
    let ArgDecl { name, offset, size, kind } = *declared;
    HsacoError::ArgMismatch { symbol, index, name, offset, size, kind, found: found.clone() }
}

fn same_arg(declared: &ArgDecl, found: &ArgInfo) -> bool {
    let kind = match declared.kind {
        ArgKind::Pointer => ValueKind::GlobalBuffer,
        ArgKind::Value => ValueKind::ByValue,
    };
    (found.offset, found.size) == (declared.offset, declared.size) && found.kind == kind
}

fn check_resources(
    decl: &KernelDecl,
    symbol: &'static str,
    kernel: &KernelInfo,
    limit: u32,
) -> Result<(), HsacoError> {
    if kernel.max_block < decl.max_block {
        return Err(HsacoError::BlockLimit { symbol, expected: decl.max_block, found: kernel.max_block });
    }
    let KernelInfo { sgpr_spills, vgpr_spills, scratch, lds, .. } = *kernel;
    if (sgpr_spills, vgpr_spills, scratch) != (0, 0, 0) {
        return Err(HsacoError::Spills { symbol, sgpr_spills, vgpr_spills, scratch });
    }
    if lds > limit {
        return Err(HsacoError::Lds { symbol, limit, found: lds });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GFX1100: &[u8] = include_bytes!("../tests/images/scale.gfx1100.elf");
    const GFX90A: &[u8] = include_bytes!("../tests/images/scale.gfx90a.elf");
    const SCRATCH: &[u8] = include_bytes!("../tests/images/scratch.gfx1100.elf");
    const UNNAMED: &[u8] = include_bytes!("../tests/images/unnamed.gfx1100.elf");

    const fn arg(name: &'static str, offset: u32, size: u32, kind: ArgKind) -> ArgDecl {
        ArgDecl { name, offset, size, kind }
    }

    const DECL: KernelDecl = KernelDecl {
        family: "scale",
        source: "scale.hip",
        image: "scale_kernel.hsaco",
        variable: "SCALE_HSACO",
        symbols: &["scale"],
        args: &[
            arg("y", 0, 8, ArgKind::Pointer),
            arg("x", 8, 8, ArgKind::Pointer),
            arg("factor", 16, 4, ArgKind::Value),
            arg("length", 24, 8, ArgKind::Value),
        ],
        max_block: 256,
    };

    fn check(bytes: &[u8], decl: &KernelDecl) -> Result<(), HsacoError> {
        CodeObject::parse(bytes).unwrap().check(decl, "gfx1100")
    }

    /// The result for the sample whose kernel `scale` was changed.
    fn changed(change: impl Fn(&mut KernelInfo)) -> Result<(), HsacoError> {
        let mut object = CodeObject::parse(GFX1100).unwrap();
        change(object.kernels.iter_mut().find(|kernel| kernel.name == "scale").unwrap());
        object.check(&DECL, "gfx1100")
    }

    #[test]
    fn the_declared_kernel_passes() {
        check(GFX1100, &DECL).unwrap();
        CodeObject::parse(GFX90A).unwrap().check(&DECL, "gfx90a:xnack-").unwrap();
    }

    #[test]
    fn another_target_is_refused() {
        let object = CodeObject::parse(GFX1100).unwrap();
        assert!(
            matches!(object.check(&DECL, "gfx1101"), Err(HsacoError::WrongTarget { found, .. }) if found == "gfx1100")
        );
        assert!(matches!(object.check(&DECL, "sm90"), Err(HsacoError::BadTarget { .. })));
    }

    #[test]
    fn kernels_and_their_symbols_must_be_there() {
        let decl = KernelDecl { symbols: &["scale", "shift"], ..DECL };
        assert!(matches!(
            check(GFX1100, &decl),
            Err(HsacoError::MissingKernel { symbol: "shift", found }) if found == ["scale", "reverse"]
        ));
        for missing in ["scale", "scale.kd"] {
            let mut object = CodeObject::parse(GFX1100).unwrap();
            assert!(object.symbols.remove(missing));
            let result = object.check(&DECL, "gfx1100");
            assert!(
                matches!(result, Err(HsacoError::MissingSymbol { missing: found, .. }) if found == missing)
            );
        }
    }

    #[test]
    fn each_difference_of_an_argument_is_refused() {
        let differs = |at: usize, change: fn(&mut ArgDecl)| {
            let mut args = DECL.args.to_vec();
            change(&mut args[at]);
            let args: &'static [ArgDecl] = args.leak();
            matches!(check(GFX1100, &KernelDecl { args, ..DECL }), Err(HsacoError::ArgMismatch { index, .. }) if index == at)
        };
        assert!(differs(0, |arg| arg.name = "z"));
        assert!(differs(1, |arg| arg.offset = 16));
        assert!(differs(2, |arg| arg.size = 8));
        assert!(differs(3, |arg| arg.kind = ArgKind::Pointer));
        assert!(differs(0, |arg| arg.kind = ArgKind::Value));
        let swapped = [DECL.args[1], DECL.args[0], DECL.args[2], DECL.args[3]].to_vec().leak();
        assert!(matches!(
            check(GFX1100, &KernelDecl { args: swapped, ..DECL }),
            Err(HsacoError::ArgMismatch { index: 0, .. })
        ));
        let fewer = KernelDecl { args: &DECL.args[..3], ..DECL };
        assert!(matches!(check(GFX1100, &fewer), Err(HsacoError::ArgCount { expected: 3, found: 4, .. })));
        assert!(matches!(check(UNNAMED, &DECL), Err(HsacoError::ArgMismatch { index: 0, .. })));
    }

    #[test]
    fn resources_must_fit() {
        let larger = KernelDecl { max_block: 257, ..DECL };
        assert!(matches!(
            check(GFX1100, &larger),
            Err(HsacoError::BlockLimit { expected: 257, found: 256, .. })
        ));
        assert!(matches!(check(SCRATCH, &DECL), Err(HsacoError::Spills { scratch: 272, .. })));
        assert!(matches!(
            changed(|kernel| kernel.vgpr_spills = 1),
            Err(HsacoError::Spills { vgpr_spills: 1, .. })
        ));
        assert!(matches!(
            changed(|kernel| kernel.sgpr_spills = 1),
            Err(HsacoError::Spills { sgpr_spills: 1, .. })
        ));
        assert!(matches!(changed(|kernel| kernel.lds = 65_537), Err(HsacoError::Lds { found: 65_537, .. })));
        changed(|kernel| kernel.lds = 65_536).unwrap();
        for size in [0, 31, 33] {
            let result = changed(|kernel| kernel.kernarg_size = size);
            assert!(matches!(result, Err(HsacoError::KernargSize { expected: 32, .. })), "{size}");
        }
        let hidden = |kernel: &mut KernelInfo| {
            let kind = ValueKind::Hidden("hidden_block_count_x".into());
            kernel.args.push(ArgInfo { name: None, offset: 32, size: 4, kind });
            kernel.kernarg_size = 288;
        };
        changed(hidden).unwrap();
        changed(|kernel| (kernel.vgprs, kernel.sgprs) = (256, 128)).unwrap();
        assert!(matches!(
            changed(|kernel| kernel.vgprs = 257),
            Err(HsacoError::Registers { kind: "vector", limit: 256, found: 257, .. })
        ));
        assert!(matches!(
            changed(|kernel| kernel.sgprs = 129),
            Err(HsacoError::Registers { kind: "scalar", limit: 128, .. })
        ));
        assert!(matches!(
            changed(|kernel| kernel.wavefront_size = 64),
            Err(HsacoError::WavefrontSize { expected: Some(32), found: 64, .. })
        ));
    }
}
