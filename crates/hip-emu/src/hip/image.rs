//! The length of a code object that a caller hands over as a bare pointer.

use std::slice;

const ELF_MAGIC: &[u8; 4] = b"\x7fELF";
const ELF_HEADER: usize = 64;
const COMPRESSED_MAGIC: &[u8; 4] = b"CCOB";
const COMPRESSED_HEADER: usize = 16;
const BUNDLE_MAGIC: &[u8; 24] = b"__CLANG_OFFLOAD_BUNDLE__";
/// Offset, size and length of the name of a bundle's entry.
const BUNDLE_ENTRY: usize = 24;
/// More bytes are no code object but a damaged header.
const MOST: u64 = 1 << 32;

/// The image, as long as its headers say; `None` for what is no code object, or one that does not tell.
///
/// # Safety
///
/// `image` is null, or points to a code object, to a bundle of them or to 24 bytes of something else, which outlive
/// the result.
pub(super) unsafe fn whole<'a>(image: *const u8) -> Option<&'a [u8]> {
    if image.is_null() {
        return None;
    }
    // SAFETY: every kind has so many bytes.
    let start = unsafe { slice::from_raw_parts(image, BUNDLE_MAGIC.len()) };
    let length = match start.first_chunk::<4>()? {
        ELF_MAGIC => {
            // SAFETY: an ELF file starts with its header.
            elf_length(unsafe { slice::from_raw_parts(image, ELF_HEADER) })?
        }
        COMPRESSED_MAGIC => compressed_length(start.get(..COMPRESSED_HEADER)?)?,
        _ if start == BUNDLE_MAGIC => {
            // SAFETY: the start of a bundle, by its magic.
            unsafe { bundle_length(image) }?
        }
        _ => return None,
    };
    if length > MOST {
        return None;
    }
    // SAFETY: the headers give this length.
    Some(unsafe { slice::from_raw_parts(image, usize::try_from(length).ok()?) })
}

/// End of the section headers, with which linkers end a file.
fn elf_length(header: &[u8]) -> Option<u64> {
    let sections = u64_at(header, 40)?;
    let table = u64::from(u16_at(header, 58)?) * u64::from(u16_at(header, 60)?);
    // Without sections, the segments' table is all that the header tells, and it is not the end.
    if table == 0 { None } else { sections.checked_add(table) }
}

/// The second version has the file's length in 32 bits, the third in 64; the first has none.
fn compressed_length(header: &[u8]) -> Option<u64> {
    match u16_at(header, 4)? {
        2 => header.get(8..)?.first_chunk().map(|bytes| u64::from(u32::from_le_bytes(*bytes))),
        3 => u64_at(header, 8),
        _ => None,
    }
}

/// End of the entry that ends last.
///
/// # Safety
///
/// `image` points to a bundle.
unsafe fn bundle_length(image: *const u8) -> Option<u64> {
    let mut table = BUNDLE_MAGIC.len() + 8;
    // SAFETY: the count of entries comes after the magic.
    let entries = u64_at(unsafe { slice::from_raw_parts(image, table) }, BUNDLE_MAGIC.len())?;
    let mut length = 0;
    for _ in 0..entries {
        // SAFETY: the table goes on for as many entries as it has.
        let known = unsafe { slice::from_raw_parts(image, table + BUNDLE_ENTRY) };
        let (offset, size, name) =
            (u64_at(known, table)?, u64_at(known, table + 8)?, u64_at(known, table + 16)?);
        length = length.max(offset.checked_add(size)?);
        if name > MOST || length > MOST {
            return None;
        }
        table += BUNDLE_ENTRY + usize::try_from(name).ok()?;
    }
    Some(length.max(table as u64))
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AXPY: &[u8] = include_bytes!("../../tests/data/axpy.gfx1100.hsaco");

    fn length(bytes: &[u8]) -> Option<usize> {
        // SAFETY: the bytes are a code object, a bundle, or at least 24 bytes of something else.
        unsafe { whole(bytes.as_ptr()) }.map(<[u8]>::len)
    }

    #[test]
    fn an_object_is_as_long_as_its_headers_say() {
        assert_eq!(length(AXPY), Some(AXPY.len()));
        let mut stripped = AXPY.to_vec();
        stripped[58..62].fill(0);
        assert_eq!(length(&stripped), None);
        assert_eq!(length(&[7; 24]), None);
        // SAFETY: null is allowed.
        assert!(unsafe { whole(std::ptr::null()) }.is_none());
    }

    #[test]
    fn a_bundle_ends_with_its_last_entry() {
        let mut bundle = BUNDLE_MAGIC.to_vec();
        bundle.extend(2_u64.to_le_bytes());
        for (offset, size, name) in
            [(4096_u64, 100_u64, "host-x86_64"), (200, 300, "hipv4-amdgcn-amd-amdhsa--gfx1100")]
        {
            bundle.extend([offset, size, name.len() as u64].map(u64::to_le_bytes).concat());
            bundle.extend(name.as_bytes());
        }
        bundle.resize(4196, 0);
        assert_eq!(length(&bundle), Some(4196));
        bundle[32..40].fill(0xff);
        assert_eq!(length(&bundle), None);
    }

    #[test]
    fn a_compressed_bundle_tells_its_length_from_the_second_version_on() {
        let header = |version: u16, length: [u8; 8]| {
            [&COMPRESSED_MAGIC[..], &version.to_le_bytes(), &[0; 2], &length, &[0; 16]].concat()
        };
        assert_eq!(length(&header(3, 32_u64.to_le_bytes())), Some(32));
        assert_eq!(length(&header(2, [24, 0, 0, 0, 1, 2, 3, 4])), Some(24));
        assert_eq!(length(&header(1, [24; 8])), None);
    }
}
