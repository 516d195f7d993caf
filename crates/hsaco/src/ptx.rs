use crate::check::check_kernel;
use crate::metadata::{ArgInfo, KernelInfo, ValueKind};
use crate::{HsacoError, KernelDecl, TargetId};

/// Bytes of shared memory that every NVIDIA card gives a block without being asked for more.
pub(crate) const MAX_SHARED: u32 = 49_152;
/// Lanes of a warp.
const WARP: u32 = 32;

/// Kernels for NVIDIA's cards, as the text that the driver compiles: PTX, as LLVM writes it.
///
/// It runs on every card of its target's compute capability or a later one.
#[derive(Clone, Debug)]
pub struct Ptx<'a> {
    text: &'a str,
    target: TargetId,
    version: (u32, u32),
    pub(crate) kernels: Vec<KernelInfo>,
}

/// Memory of a block that the text declares outside of functions, since several use it.
struct Shared<'a> {
    name: &'a str,
    bytes: u32,
}

impl<'a> Ptx<'a> {
    /// Reads the text's target and kernels.
    ///
    /// # Errors
    /// [`HsacoError::BadPtx`] names what a launch could not vouch for: no target, a function that is not part of its kernel, a
    /// name from elsewhere.
    pub fn parse(bytes: &'a [u8]) -> Result<Ptx<'a>, HsacoError> {
        let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
        let text = text.ok_or_else(|| bad("bytes that are no text"))?;
        let mut lines = text.lines().map(|line| line.split("//").next().unwrap_or_default().trim());
        let (mut version, mut target, mut kernels) = (None, None, Vec::new());
        let mut shared: Vec<Shared<'_>> = Vec::new();
        while let Some(line) = lines.next() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some(".version") => version = words.next().and_then(version_of),
                Some(".target") => {
                    let name = words.next().unwrap_or_default().trim_end_matches(',');
                    target = Some(name.parse::<TargetId>()?).filter(TargetId::is_nvidia);
                }
                Some(".extern") => return Err(bad(line)),
                Some(".shared") => shared.push(declared(line)?),
                Some(".visible") if words.next() == Some(".entry") => {
                    let name = line.split_whitespace().nth(2).unwrap_or_default();
                    kernels.push(entry(name, line, &mut lines, &shared)?);
                }
                Some(".func" | ".visible" | ".weak" | ".entry") => return Err(bad(line)),
                _ => {}
            }
        }
        let version = version.ok_or_else(|| bad("no .version"))?;
        let target = target.ok_or_else(|| bad("no .target of NVIDIA's"))?;
        Ok(Ptx { text, target, version, kernels })
    }

    /// The text itself.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// What it runs on, with all that came later.
    pub fn target(&self) -> &TargetId {
        &self.target
    }

    /// Version of the language, (7, 0) for 7.0: a driver takes its own and earlier ones.
    pub fn version(&self) -> (u32, u32) {
        self.version
    }

    /// Its kernels, in the order of the text. Registers are not known before the driver has compiled it; arguments have no names.
    pub fn kernels(&self) -> &[KernelInfo] {
        &self.kernels
    }

    /// Compares this text with what `decl` says, for the target `arch` (`sm_80`): target, kernels, arguments by offset, size and
    /// kind, block limit, no memory of a thread, shared memory.
    ///
    /// # Errors
    /// The first difference, as its own variant of [`HsacoError`].
    pub fn check(&self, decl: &KernelDecl, arch: &str) -> Result<(), HsacoError> {
        let expected: TargetId = arch.parse()?;
        if self.target != expected {
            let found = self.target.to_string();
            return Err(HsacoError::WrongTarget { expected: arch.to_owned(), found });
        }
        decl.symbols.iter().try_for_each(|symbol| {
            check_kernel(decl, symbol, &self.target, &self.kernels, MAX_SHARED).map(|_| ())
        })
    }

    /// The first operation that is not one rounding of its exact result: one that flushes or approximates, or one that the
    /// driver's compiler may fuse with another since it names no rounding.
    pub fn loose_operation(&self) -> Option<&'a str> {
        operations(self.text).find(|word| {
            let float = [".f16", ".f32", ".f64", ".bf16"].iter().any(|kind| word.contains(kind));
            let rounds = ["add", "sub", "mul", "div", "sqrt", "fma", "mad", "rcp"];
            let arithmetic = rounds.contains(&word.split('.').next().unwrap_or_default());
            let loose = word.contains(".approx") || word.contains(".full") || word.contains(".ftz");
            float && (loose || (arithmetic && !word.contains(".rn")))
        })
    }

    /// The first operation that multiplies and adds floats with one rounding.
    pub fn fused_operation(&self) -> Option<&'a str> {
        operations(self.text).find(|word| word.starts_with("fma.") || word.starts_with("mad.rn"))
    }
}

/// The operations of a text: the first words of its lines, behind a predicate.
fn operations(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        line.split_whitespace().find(|word| !word.starts_with('@')).filter(|word| word.contains('.'))
    })
}

fn bad(what: &str) -> HsacoError {
    HsacoError::BadPtx { found: what.chars().take(80).collect() }
}

fn version_of(word: &str) -> Option<(u32, u32)> {
    let (major, minor) = word.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// `.shared .align 4 .b8 name[512];`
fn declared(line: &str) -> Result<Shared<'_>, HsacoError> {
    let name = line.split_whitespace().last().unwrap_or_default().trim_end_matches(';');
    let (name, bytes) = sized(name).ok_or_else(|| bad(line))?;
    if !line.contains(" .b8 ") {
        return Err(bad(line));
    }
    Ok(Shared { name, bytes })
}

/// `name[512]`
fn sized(word: &str) -> Option<(&str, u32)> {
    let (name, rest) = word.split_once('[')?;
    Some((name, rest.strip_suffix(']')?.parse().ok()?))
}

/// A kernel, from the line that names it to the brace that ends it.
fn entry<'a>(
    name: &str,
    first: &str,
    lines: &mut impl Iterator<Item = &'a str>,
    shared: &[Shared<'_>],
) -> Result<KernelInfo, HsacoError> {
    let name = name.trim_end_matches(['(', ')']).to_owned();
    let (mut args, mut end) = (Vec::new(), 0);
    if !first.ends_with("()") {
        for line in lines.by_ref().take_while(|line| *line != ")") {
            if let Some(arg) = argument(line, end)? {
                end = arg.offset + arg.size;
                args.push(arg);
            }
        }
    }
    let (mut max_block, mut scratch, mut lds) = (0, 0_u32, 0_u32);
    let mut used = vec![false; shared.len()];
    for line in lines.take_while(|line| *line != "}") {
        match line.split_whitespace().next() {
            Some(".maxntid" | ".reqntid") => max_block = product(line).ok_or_else(|| bad(line))?,
            Some(".local") => scratch = scratch.saturating_add(declared(line)?.bytes),
            Some(".shared") => lds = lds.saturating_add(declared(line)?.bytes),
            Some(word) if word.starts_with("call") => return Err(bad(line)),
            _ => {}
        }
        for (used, shared) in used.iter_mut().zip(shared) {
            *used |= mentions(line, shared.name);
        }
    }
    let used = used.iter().zip(shared).filter(|(used, _)| **used);
    let lds = used.fold(lds, |lds, (_, shared)| lds.saturating_add(shared.bytes));
    Ok(KernelInfo {
        descriptor: name.clone(),
        name,
        args,
        kernarg_size: end,
        lds,
        scratch,
        sgpr_spills: 0,
        vgpr_spills: 0,
        sgprs: 0,
        vgprs: 0,
        agprs: 0,
        wavefront_size: WARP,
        max_block,
    })
}

/// `.param .u64 .ptr .align 1 rope_f32_param_0,` or `.param .u32 rope_f32_param_9`, which follows an argument that ends at `end`.
fn argument(line: &str, end: u32) -> Result<Option<ArgInfo>, HsacoError> {
    let mut words = line.split_whitespace();
    match words.next() {
        Some(".param") => {}
        Some("(") | None => return Ok(None),
        Some(_) => return Err(bad(line)),
    }
    let size = match words.next() {
        Some(".u64" | ".b64" | ".f64") => 8,
        Some(".u32" | ".b32" | ".f32") => 4,
        _ => return Err(bad(line)),
    };
    let kind = if words.next() == Some(".ptr") { ValueKind::GlobalBuffer } else { ValueKind::ByValue };
    Ok(Some(ArgInfo { name: None, offset: end.next_multiple_of(size), size, kind }))
}

/// The product of the numbers of a line: `.maxntid 256, 1, 1`.
fn product(line: &str) -> Option<u32> {
    let numbers = line.split([' ', '\t', ',']).skip(1).filter(|word| !word.is_empty());
    numbers
        .map(|word| word.parse::<u32>().ok())
        .try_fold(1_u32, |product, number| product.checked_mul(number?))
}

/// Whether a line has `name`, and not as the start of a longer one.
fn mentions(line: &str, name: &str) -> bool {
    let part = |next: char| next.is_ascii_alphanumeric() || next == '_' || next == '$';
    line.match_indices(name).any(|(at, _)| !line[at + name.len()..].starts_with(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ArgDecl, ArgKind};

    const SCALE: &[u8] = include_bytes!("../tests/images/scale.sm_80.ptx");

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

    fn text() -> String {
        String::from_utf8(SCALE.to_vec()).unwrap()
    }

    fn check(text: &str, decl: &KernelDecl) -> Result<(), HsacoError> {
        Ptx::parse(text.as_bytes())?.check(decl, "sm_80")
    }

    #[test]
    fn kernels_are_read() {
        let ptx = Ptx::parse(SCALE).unwrap();
        assert_eq!((ptx.target().to_string().as_str(), ptx.version()), ("sm_80", (7, 0)));
        let [scale, reverse] = ptx.kernels() else { panic!("{:?}", ptx.kernels()) };
        assert_eq!(
            (scale.name.as_str(), scale.kernarg_size, scale.lds, scale.max_block),
            ("scale", 32, 0, 256)
        );
        assert_eq!(
            (reverse.name.as_str(), reverse.kernarg_size, reverse.lds, reverse.max_block),
            ("reverse", 8, 256, 64)
        );
        assert_eq!((reverse.scratch, reverse.wavefront_size), (0, 32));
        assert_eq!((ptx.loose_operation(), ptx.fused_operation()), (None, None));
    }

    #[test]
    fn the_declared_kernel_passes_and_each_difference_is_refused() {
        check(&text(), &DECL).unwrap();
        let missing = KernelDecl { symbols: &["scale", "shift"], ..DECL };
        assert!(matches!(check(&text(), &missing), Err(HsacoError::MissingKernel { symbol: "shift", .. })));
        let fewer = KernelDecl { args: &DECL.args[..3], ..DECL };
        assert!(matches!(check(&text(), &fewer), Err(HsacoError::ArgCount { expected: 3, found: 4, .. })));
        let value =
            [DECL.args[0], arg("x", 8, 8, ArgKind::Value), DECL.args[2], DECL.args[3]].to_vec().leak();
        let value = KernelDecl { args: value, ..DECL };
        assert!(matches!(check(&text(), &value), Err(HsacoError::ArgMismatch { index: 1, .. })));
        let larger = KernelDecl { max_block: 257, ..DECL };
        assert!(matches!(check(&text(), &larger), Err(HsacoError::BlockLimit { found: 256, .. })));
        let other = Ptx::parse(SCALE).unwrap().check(&DECL, "sm_90");
        assert!(matches!(other, Err(HsacoError::WrongTarget { found, .. }) if found == "sm_80"));
    }

    #[test]
    fn memory_of_threads_and_too_much_of_blocks_is_refused() {
        let scratch = text().replacen("{\n", "{\n\t.local .align 16 .b8 \t__local_depot0[48];\n", 1);
        assert!(matches!(check(&scratch, &DECL), Err(HsacoError::Spills { scratch: 48, .. })));
        let shared = KernelDecl { symbols: &["reverse"], args: &DECL.args[..1], max_block: 64, ..DECL };
        check(&text(), &shared).unwrap();
        let large = text().replace("[256];", "[49156];");
        assert!(matches!(check(&large, &shared), Err(HsacoError::Lds { limit: 49_152, found: 49_156, .. })));
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let without =
            |part: &str| text().lines().filter(|line| !line.contains(part)).collect::<Vec<_>>().join("\n");
        for text in [
            without(".version"),
            without(".target"),
            text() + "\n.extern .func vprintf;",
            text() + "\n.visible .func helper()",
            text().replace(".u32 ", ".u8 ").replace(".f32 scale", ".b8 scale"),
            text() + "\0",
        ] {
            assert!(matches!(check(&text, &DECL), Err(HsacoError::BadPtx { .. })), "{text}");
        }
        let amd = text().replace("sm_80", "gfx1100");
        assert!(matches!(check(&amd, &DECL), Err(HsacoError::BadPtx { .. })));
        assert!(matches!(Ptx::parse(b"\xff"), Err(HsacoError::BadPtx { .. })));
    }

    #[test]
    fn operations_that_round_otherwise_are_found() {
        for (line, loose, fused) in [
            ("add.f32 \t%f1, %f2, %f3;", true, false),
            ("@%p1 mul.f32 %f1, %f2, %f3;", true, false),
            ("div.full.f32 %f1, %f2, %f3;", true, false),
            ("ex2.approx.ftz.f32 %f1, %f2;", true, false),
            ("fma.rn.f32 %f1, %f2, %f3, %f4;", false, true),
            ("add.rn.f32 %f1, %f2, %f3;", false, false),
            ("sqrt.rn.f64 %fd1, %fd2;", false, false),
            ("mad.lo.s32 %r1, %r2, %r3, %r4;", false, false),
            ("mul.wide.u32 %rd1, %r2, 4;", false, false),
        ] {
            let text = text().replacen("ret;", &format!("{line}\n\tret;"), 1);
            let ptx = Ptx::parse(text.as_bytes()).unwrap();
            assert_eq!(
                (ptx.loose_operation().is_some(), ptx.fused_operation().is_some()),
                (loose, fused),
                "{line}"
            );
        }
    }
}
