//! A linked code object, listed and described.

use hip_emu::{Arch, Dialect, KernelDescriptor, Listing, ObjectError};
use object::{Endianness, Object, ObjectSection, ObjectSymbol, read::elf::ElfFile64};

const OBJECT: &[u8] = include_bytes!("data/axpy.gfx1100.hsaco");

fn listing_of(elf: &[u8]) -> Result<String, ObjectError> {
    let mut text = String::new();
    for listing in Listing::of_elf(elf, Arch::Gfx11)? {
        text.push_str(&format!("Disassembly of section {}:\n", listing.section));
        for function in &listing.functions {
            text.push('\n');
            assert!(listing.print(function, Dialect::Llvm22, &mut text).is_ok(), "a String takes all text");
        }
    }
    Ok(text)
}

#[test]
fn an_object_lists_as_llvm_objdump_prints_it() -> Result<(), ObjectError> {
    let text = listing_of(OBJECT)?;
    let expected = include_str!("data/axpy.gfx1100.txt");
    for (line, (printed, expected)) in text.lines().zip(expected.lines()).enumerate() {
        assert_eq!(printed, expected, "line {}", line + 1);
    }
    assert_eq!(text.lines().count(), expected.lines().count());
    Ok(())
}

/// The object after `change`, which is given the places in the file of the code and of a symbol in the symbol table.
fn changed(symbol: &str, change: impl Fn(&mut Vec<u8>, usize, usize)) -> Result<Vec<u8>, object::Error> {
    const SYMBOL_BYTES: usize = 24;
    let file = ElfFile64::<Endianness>::parse(OBJECT)?;
    let start = |name| file.section_by_name(name).and_then(|section| section.file_range()).map(|(at, _)| at);
    let index = file.symbols().find(|entry| entry.name() == Ok(symbol)).map(|entry| entry.index().0);
    let (Some(code), Some(symbols), Some(index)) = (start(".text"), start(".symtab"), index) else {
        panic!("the object has code and symbols");
    };
    let place = |start: u64| usize::try_from(start).unwrap_or(usize::MAX);
    let mut object = OBJECT.to_vec();
    change(&mut object, place(code), place(symbols) + index * SYMBOL_BYTES);
    Ok(object)
}

#[test]
fn zeros_are_one_line_and_a_single_zero_word_is_illegal() -> Result<(), Box<dyn std::error::Error>> {
    let object = changed("axpy_f32", |object, code, _| {
        object[code + 0x10..code + 0x14].fill(0);
        object[code + 0x18..code + 0x23].fill(0);
    })?;
    let text = listing_of(&object)?;
    let lines: Vec<&str> = text.lines().skip(5).take(4).collect();
    let [illegal, after] = [("v_illegal", "1910: 00000000"), ("s_cmp_eq_i32 s0, s0", "1920: BF000000")]
        .map(|(instruction, place)| format!("\t{instruction:<59}// 00000000{place}"));
    assert_eq!([lines[0], lines[2], lines[3]], [&illegal, "\t\t...", &after]);
    Ok(())
}

#[test]
fn code_before_the_first_symbol_has_the_name_of_the_section() -> Result<(), Box<dyn std::error::Error>> {
    const VALUE: usize = 8;
    let object = changed("axpy_f32", |object, _, symbol| object[symbol + VALUE] += 8)?;
    let listings = Listing::of_elf(&object, Arch::Gfx11)?;
    let names: Vec<_> = listings[0].functions.iter().map(|f| (f.name.as_str(), f.address)).collect();
    assert_eq!(names[..2], [(".text", 0x1900), ("axpy_f32", 0x1908)]);
    assert_eq!(listings[0].functions[0].code.len(), 8);
    Ok(())
}

#[test]
fn branches_lead_to_instructions() -> Result<(), ObjectError> {
    let listings = Listing::of_elf(OBJECT, Arch::Gfx11)?;
    let mut branches = 0;
    for function in listings.iter().flat_map(|listing| &listing.functions) {
        let starts: Vec<u64> = function.lines(Arch::Gfx11).map(|line| line.address).collect();
        for target in function.lines(Arch::Gfx11).filter_map(|line| line.target()) {
            assert!(starts.contains(&target), "{}: {target:#x}", function.name);
            branches += 1;
        }
    }
    assert_eq!(branches, include_str!("data/axpy.gfx1100.txt").matches("branch").count());
    Ok(())
}

#[test]
fn a_descriptor_says_what_a_launch_needs() -> Result<(), ObjectError> {
    let (address, descriptor) = KernelDescriptor::find(OBJECT, "axpy_f32.kd")?;
    let listings = Listing::of_elf(OBJECT, Arch::Gfx11)?;
    let entry = address.wrapping_add_signed(descriptor.entry_offset);
    assert_eq!(entry, listings[0].functions[0].address);
    assert_eq!((descriptor.group_segment_size, descriptor.private_segment_size), (0, 0));
    assert_eq!(descriptor.kernarg_size, 24);
    assert!(descriptor.is_wave32());
    assert_eq!(descriptor.user_values().collect::<Vec<_>>(), ["kernarg_segment_ptr"]);
    let missing = KernelDescriptor::find(OBJECT, "axpy_f64.kd");
    assert!(matches!(missing, Err(ObjectError::NoDescriptor { symbol }) if symbol == "axpy_f64.kd"));
    Ok(())
}

#[test]
fn a_damaged_object_gives_an_error_or_a_listing() {
    for length in (0..OBJECT.len()).step_by(7) {
        let cut = &OBJECT[..length];
        assert!(listing_of(cut).is_err() || length > 64, "{length}");
        let _ = KernelDescriptor::find(cut, "axpy_f32.kd");
    }
    for place in 0..OBJECT.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = OBJECT.to_vec();
            damaged[place] ^= flip;
            if let Ok(listings) = Listing::of_elf(&damaged, Arch::Gfx11) {
                let listed: usize = listings.iter().flat_map(|l| &l.functions).map(|f| f.code.len()).sum();
                assert!(listed <= damaged.len() * listings.len(), "byte {place}");
            }
            let _ = KernelDescriptor::find(&damaged, "axpy_f32.kd");
        }
    }
}
