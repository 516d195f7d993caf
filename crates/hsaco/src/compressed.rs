//! Clang's compressed offload bundle: a header before a whole bundle (LLVM's `CompressedOffloadBundle`).

use std::io::{self, Read};

use flate2::read::ZlibDecoder;
use md5::{Digest, Md5};
use ruzstd::decoding::StreamingDecoder;

use crate::HsacoError;

const MAGIC: &[u8] = b"CCOB";
/// Bytes of a bundle at most: far more than all architectures of the largest libraries take.
const MOST: u64 = 1 << 30;
/// What a zstd decoder must be able to look back at, by RFC 8878.
const WINDOW: u64 = 8 << 20;

/// The header. Its sizes have 32 bits before version 3, and version 1 does not have the file's.
struct Header {
    method: u16,
    /// Bytes of header and compressed bundle.
    file_size: Option<u64>,
    /// Bytes of the bundle.
    size: u64,
    /// Start of the bundle's MD5.
    hash: u64,
}

/// The bundle in a compressed one. Bytes after its end are passed over, if it tells its end.
pub(crate) fn decompress(bytes: &[u8]) -> Result<Vec<u8>, HsacoError> {
    let mut rest = bytes;
    let header = Header::take(&mut rest, bytes.len())?;
    let header_size = bytes.len() - rest.len();
    if let Some(file_size) = header.file_size {
        let truncated = HsacoError::CompressedTruncated { expected: file_size, found: bytes.len() };
        let end = usize::try_from(file_size).ok().and_then(|end| end.checked_sub(header_size));
        rest = end.and_then(|end| rest.get(..end)).ok_or(truncated)?;
    }
    let expected = header.size;
    if expected > MOST {
        return Err(HsacoError::CompressedTooLarge { size: expected, limit: MOST });
    }
    let bundle = match header.method {
        0 => at_most(expected, ZlibDecoder::new(rest)),
        1 => {
            let window = expected.next_power_of_two().max(WINDOW);
            StreamingDecoder::new_with_max_window_size(rest, window)
                .map_err(io::Error::other)
                .and_then(|decoder| at_most(expected, decoder))
        }
        found => return Err(HsacoError::CompressionMethod { found }),
    };
    let bundle = bundle.map_err(|source| HsacoError::CompressedDamaged { source })?;
    if bundle.len() as u64 != expected {
        return Err(HsacoError::CompressedSize { expected, found: bundle.len() });
    }
    let found = hash(&bundle);
    if found != header.hash {
        return Err(HsacoError::CompressedHash { expected: header.hash, found });
    }
    Ok(bundle)
}

impl Header {
    fn take(rest: &mut &[u8], found: usize) -> Result<Self, HsacoError> {
        let mut start = rest.strip_prefix(MAGIC).unwrap_or_default();
        let version = take_u16(&mut start).ok_or(HsacoError::CompressedTruncated { expected: 8, found })?;
        let expected = match version {
            1 => 20,
            2 => 24,
            3 => 32,
            found => return Err(HsacoError::CompressedVersion { found }),
        };
        *rest = start;
        Self::fields(rest, version).ok_or(HsacoError::CompressedTruncated { expected, found })
    }

    fn fields(rest: &mut &[u8], version: u16) -> Option<Self> {
        let method = take_u16(rest)?;
        let mut size = || if version < 3 { take_u32(rest).map(u64::from) } else { take_u64(rest) };
        let file_size = if version == 1 { None } else { Some(size()?) };
        let size = size()?;
        Some(Self { method, file_size, size, hash: take_u64(rest)? })
    }
}

/// What a decoder gives, but not more than one byte over `size`.
fn at_most(size: u64, decoder: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    decoder.take(size + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The first 8 bytes of the MD5, least significant first.
fn hash(bytes: &[u8]) -> u64 {
    let digest: [u8; 16] = Md5::digest(bytes).into();
    digest.first_chunk().map_or(0, |start| u64::from_le_bytes(*start))
}

fn take_u16(rest: &mut &[u8]) -> Option<u16> {
    take(rest).map(u16::from_le_bytes)
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    take(rest).map(u32::from_le_bytes)
}

fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    take(rest).map(u64::from_le_bytes)
}

fn take<const BYTES: usize>(rest: &mut &[u8]) -> Option<[u8; BYTES]> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*bytes)
}
