//! Compares the listings of all code objects in files with llvm-objdump's: bare objects, bundles, and libraries with
//! device code, such as Debian's librocrand and librocsparse.
//! `cargo run --release -p hip-emu --example compare -- [--objdump llvm-objdump-22] FILE...`

#[path = "../tests/samples/objdump.rs"]
mod objdump;

use std::{collections::BTreeMap, env, error::Error, fs, process::ExitCode};

use hip_emu::{Arch, Dialect};
use hsaco::{CodeObject, HsacoError};
use objdump::{Comparison, compare};

/// The clang-offload-bundler's default is a page; a bare object is at the start of its file.
const ALIGNMENT: usize = 4096;
const ELF_MAGIC: &[u8] = b"\x7fELF";
/// Places in an ELF64 header: the machine, the section headers' place, their size and their number.
const MACHINE: usize = 18;
const HEADERS_AT: usize = 40;
const HEADER_SIZE: usize = 58;
const HEADERS: usize = 60;

fn number<const BYTES: usize>(elf: &[u8], at: usize) -> Option<usize> {
    let bytes = elf.get(at..at + BYTES)?;
    bytes.iter().rev().try_fold(0_usize, |number, &byte| Some(number.checked_mul(256)? + usize::from(byte)))
}

/// The AMDGPU object at the start of `bytes`, which ends with its section headers, as lld writes it.
fn object_at(bytes: &[u8]) -> Option<&[u8]> {
    let machine = usize::from(object::elf::EM_AMDGPU.0);
    if !bytes.starts_with(ELF_MAGIC) || number::<2>(bytes, MACHINE)? != machine {
        return None;
    }
    let headers = number::<2>(bytes, HEADER_SIZE)? * number::<2>(bytes, HEADERS)?;
    bytes.get(..number::<8>(bytes, HEADERS_AT)?.checked_add(headers)?)
}

/// What was found for one target.
#[derive(Default)]
struct Count {
    objects: usize,
    comparison: Comparison,
}

impl Count {
    fn add(&mut self, object: Comparison) {
        let Comparison { instructions, differing, kept } = object;
        self.comparison.instructions += instructions;
        self.comparison.differing += differing;
        self.comparison.kept.extend(kept);
        self.comparison.kept.truncate(objdump::KEPT);
    }
}

#[expect(clippy::print_stdout, reason = "printing is what this example is for")]
fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments: Vec<String> = env::args().skip(1).collect();
    let mut objdump = "llvm-objdump-22".to_owned();
    if let [flag, name, ..] = arguments.as_slice()
        && flag == "--objdump"
    {
        objdump.clone_from(name);
        arguments.drain(..2);
    }
    let dialect = if objdump.ends_with("19") { Dialect::Llvm19 } else { Dialect::Llvm22 };
    let (mut instructions, mut differing) = (0, 0);
    for path in &arguments {
        println!("{path}");
        for (target, count) in compare_file(&fs::read(path)?, &objdump, dialect)? {
            let Count { objects, comparison } = count;
            for [expected, found] in &comparison.kept {
                println!("  {objdump}: {expected}\n  here: {found}");
            }
            if Arch::from_target(&target).is_some() {
                println!(
                    "  {target}: {objects} objects, {} instructions, {} lines differ",
                    comparison.instructions, comparison.differing
                );
            } else {
                println!("  {target}: {objects} objects, not decoded here");
            }
            instructions += comparison.instructions;
            differing += comparison.differing;
        }
    }
    println!("{instructions} instructions, {differing} lines differ");
    Ok(if differing == 0 && instructions > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Compares the objects of a file, by processor.
fn compare_file(
    bytes: &[u8],
    objdump: &str,
    dialect: Dialect,
) -> Result<BTreeMap<String, Count>, Box<dyn Error>> {
    let mut counts = BTreeMap::<String, Count>::new();
    for place in (0..bytes.len()).step_by(ALIGNMENT) {
        let Some(elf) = object_at(&bytes[place..]) else { continue };
        let target = match CodeObject::parse(elf) {
            Err(HsacoError::UnknownProcessor { mach }) => format!("EF_AMDGPU_MACH {mach:#x}"),
            object => object?.target().processor.clone(),
        };
        let count = counts.entry(target.clone()).or_default();
        count.objects += 1;
        if let Some(arch) = Arch::from_target(&target) {
            count.add(compare(elf, arch, objdump, dialect)?);
        }
    }
    Ok(counts)
}
