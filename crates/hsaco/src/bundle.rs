//! Clang's offload bundle: a table of code objects by target (clang's ClangOffloadBundler documentation).

use std::borrow::Cow;

#[cfg(feature = "compressed")]
use crate::compressed::decompress;
use crate::{HsacoError, TargetId};

const MAGIC: &[u8] = b"__CLANG_OFFLOAD_BUNDLE__";
const COMPRESSED_MAGIC: &[u8] = b"CCOB";
const ELF_MAGIC: &[u8] = b"\x7fELF";

/// The ELF in `bytes`, which is an ELF itself or a bundle. Of a bundle, the entry that suits `card` best is taken, or
/// without a card the only device entry.
pub(crate) fn unwrap<'a>(bytes: &'a [u8], card: Option<&TargetId>) -> Result<Cow<'a, [u8]>, HsacoError> {
    if bytes.starts_with(COMPRESSED_MAGIC) {
        let bundle = decompress(bytes)?;
        return plain(&bundle, card).map(|elf| Cow::Owned(elf.to_vec()));
    }
    plain(bytes, card).map(Cow::Borrowed)
}

#[cfg(not(feature = "compressed"))]
fn decompress(_bytes: &[u8]) -> Result<Vec<u8>, HsacoError> {
    Err(HsacoError::CompressedBundle)
}

/// As [`unwrap`], of what is not compressed.
fn plain<'a>(bytes: &'a [u8], card: Option<&TargetId>) -> Result<&'a [u8], HsacoError> {
    if bytes.starts_with(ELF_MAGIC) {
        return Ok(bytes);
    }
    let Some(table) = bytes.strip_prefix(MAGIC) else {
        return Err(HsacoError::NotACodeObject { found: bytes.iter().copied().take(8).collect() });
    };
    let entries = device_entries(bytes, table)?;
    let chosen = match (card, entries.as_slice()) {
        (None, [only]) => Some(only),
        (None, _) => None,
        (Some(card), all) => {
            let suitable = all.iter().filter(|entry| entry.target.runs_on(card));
            suitable.max_by_key(|entry| entry.target.precedence())
        }
    };
    chosen.map(|entry| entry.bytes).ok_or_else(|| HsacoError::NoBundleEntry {
        wanted: card.map(TargetId::to_string),
        found: entries.iter().map(|entry| entry.target.to_string()).collect(),
    })
}

struct Entry<'a> {
    target: TargetId,
    bytes: &'a [u8],
}

/// The entries that are AMD device code. The host's entry has another kind of name and is passed over.
fn device_entries<'a>(bytes: &'a [u8], table: &'a [u8]) -> Result<Vec<Entry<'a>>, HsacoError> {
    let mut rest = table;
    let entries = take_u64(&mut rest).ok_or(HsacoError::TruncatedBundle { entry: 0, entries: 0 })?;
    let mut found = Vec::new();
    // The count is not trusted: each entry takes bytes, so a lie ends at the end of the file.
    for entry in 0..entries {
        let (offset, size, id) =
            take_entry(&mut rest).ok_or(HsacoError::TruncatedBundle { entry, entries })?;
        let id = String::from_utf8_lossy(id);
        let Some((_, target)) = id.split_once("amdgcn-amd-amdhsa--") else { continue };
        let target = target.parse()?;
        let bytes = slice(bytes, offset, size).ok_or_else(|| HsacoError::BundleEntryOutside {
            id: id.to_string(),
            offset,
            size,
            len: bytes.len(),
        })?;
        found.push(Entry { target, bytes });
    }
    Ok(found)
}

fn take_entry<'a>(rest: &mut &'a [u8]) -> Option<(u64, u64, &'a [u8])> {
    let (offset, size, id_len) = (take_u64(rest)?, take_u64(rest)?, take_u64(rest)?);
    let (id, after) = rest.split_at_checked(usize::try_from(id_len).ok()?)?;
    *rest = after;
    Some((offset, size, id))
}

fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    let (number, after) = rest.split_first_chunk::<8>()?;
    *rest = after;
    Some(u64::from_le_bytes(*number))
}

fn slice(bytes: &[u8], offset: u64, size: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(size).ok()?)?;
    bytes.get(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bundle of `(id, offset, size)` that promises `entries`, followed by `payload`.
    fn bundle(entries: u64, table: &[(&str, u64, u64)], payload: &[u8]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(entries.to_le_bytes());
        for (id, offset, size) in table {
            bytes.extend(offset.to_le_bytes());
            bytes.extend(size.to_le_bytes());
            bytes.extend((id.len() as u64).to_le_bytes());
            bytes.extend(id.as_bytes());
        }
        bytes.extend(payload);
        bytes
    }

    const HOST: &str = "host-x86_64-unknown-linux--";
    const GFX1100: &str = "hipv4-amdgcn-amd-amdhsa--gfx1100";
    const GFX1201: &str = "hipv4-amdgcn-amd-amdhsa--gfx1201";

    fn arch(text: &str) -> TargetId {
        text.parse().unwrap()
    }

    #[test]
    fn the_entry_that_suits_the_card_is_taken() {
        let table = [(HOST, 0, 0), (GFX1100, 24, 8), (GFX1201, 0, 24)];
        let bytes = bundle(3, &table, &[]);
        assert_eq!(*unwrap(&bytes, Some(&arch("gfx1100"))).unwrap(), 3u64.to_le_bytes());
        assert_eq!(*unwrap(&bytes, Some(&arch("gfx1201"))).unwrap(), *MAGIC);
        let missing = unwrap(&bytes, Some(&arch("gfx942")));
        assert!(
            matches!(missing, Err(HsacoError::NoBundleEntry { found, .. }) if found == ["gfx1100", "gfx1201"])
        );
        assert!(matches!(unwrap(&bytes, None), Err(HsacoError::NoBundleEntry { wanted: None, .. })));
        assert_eq!(*unwrap(&bundle(1, &[(GFX1100, 0, 24)], &[]), None).unwrap(), *MAGIC);
    }

    #[test]
    fn hostile_tables_are_errors() {
        let none = bundle(0, &[], &[]);
        assert!(matches!(unwrap(&none, None), Err(HsacoError::NoBundleEntry { .. })));
        let many = bundle(1 << 63, &[(GFX1100, 0, 1)], &[]);
        assert!(matches!(unwrap(&many, None), Err(HsacoError::TruncatedBundle { entry: 1, .. })));
        for (offset, size) in [(0, 1 << 20), (u64::MAX, 1), (1, u64::MAX), (u64::MAX, u64::MAX)] {
            let outside = bundle(1, &[(GFX1100, offset, size)], &[]);
            assert!(
                matches!(unwrap(&outside, None), Err(HsacoError::BundleEntryOutside { .. })),
                "{offset} {size}"
            );
        }
        let mut long_id = bundle(1, &[(GFX1100, 0, 1)], &[]);
        long_id[48..56].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(unwrap(&long_id, None), Err(HsacoError::TruncatedBundle { entry: 0, .. })));
        assert!(matches!(unwrap(MAGIC, None), Err(HsacoError::TruncatedBundle { .. })));
        assert!(matches!(unwrap(b"", None), Err(HsacoError::NotACodeObject { .. })));
    }
}
