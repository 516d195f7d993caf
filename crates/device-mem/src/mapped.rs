use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;

use crate::{Element, MemError};

/// A file mapped read-only, shared by the buffers that borrow from it.
///
/// The operating system pages the bytes in when they are read. The file must not be cut or rewritten while it is
/// mapped: a read beyond its new end raises SIGBUS, which no Rust program can catch as an error.
#[derive(Clone, Debug)]
pub struct MappedFile {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    map: Mmap,
}

impl MappedFile {
    /// Maps the regular file at `path`.
    ///
    /// # Errors
    /// [`MemError::Map`] when the file cannot be opened, is not a regular file, or cannot be mapped.
    pub fn open(path: &Path) -> Result<MappedFile, MemError> {
        let fail = |source| MemError::Map { path: path.to_owned(), source };
        let file = File::open(path).map_err(fail)?;
        if !file.metadata().map_err(fail)?.is_file() {
            return Err(fail(std::io::Error::other("not a regular file")));
        }
        // SAFETY: `Mmap::map` asks that the file is not modified while mapped. No process can promise that for
        // another; the type's documentation passes the duty on, and every range is checked against the mapped length.
        let map = unsafe { Mmap::map(&file) }.map_err(fail)?;
        Ok(MappedFile { inner: Arc::new(Inner { path: path.to_owned(), map }) })
    }

    /// The path it was opened with.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// All bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.inner.map
    }

    /// The elements in the byte range, or `None` when they are not aligned for `T` in this mapping.
    ///
    /// # Errors
    /// [`MemError::MappedRange`] when the range leaves the file or does not hold whole elements.
    pub(crate) fn elements<T: Element>(&self, range: Range<usize>) -> Result<Option<&[T]>, MemError> {
        let bytes = self.range(range.clone(), T::DTYPE)?;
        Ok(bytemuck::try_cast_slice(bytes).ok())
    }

    /// A copy of the elements in the byte range, whatever their alignment.
    pub(crate) fn copy_elements<T: Element>(&self, range: Range<usize>) -> Result<Vec<T>, MemError> {
        let bytes = self.range(range, T::DTYPE)?;
        Ok(bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect())
    }

    fn range(&self, range: Range<usize>, dtype: crate::DType) -> Result<&[u8], MemError> {
        let bytes = self.bytes().get(range.clone()).filter(|bytes| bytes.len() % dtype.size() == 0);
        bytes.ok_or_else(|| MemError::MappedRange {
            path: self.inner.path.clone(),
            range,
            file_len: self.bytes().len(),
            dtype,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn reads_aligned_and_unaligned_elements() {
        let mut bytes = vec![7_u8; 3];
        bytes.extend_from_slice(&1.5_f32.to_le_bytes());
        bytes.push(0);
        bytes.extend_from_slice(&2.5_f32.to_le_bytes());
        let file = file(&bytes);
        let mapped = MappedFile::open(file.path()).unwrap();
        assert_eq!(mapped.elements::<f32>(3..7).unwrap(), None, "byte 3 is not aligned for f32");
        assert_eq!(mapped.copy_elements::<f32>(3..7).unwrap(), [1.5]);
        assert_eq!(mapped.elements::<f32>(8..12).unwrap(), Some(&[2.5_f32][..]));
    }

    #[test]
    fn refuses_ranges_that_leave_the_file_or_split_an_element() {
        let file = file(&[0; 8]);
        let mapped = MappedFile::open(file.path()).unwrap();
        #[expect(clippy::reversed_empty_ranges, reason = "a lying header can ask for one")]
        for range in [4..12, 0..6, 9..9, 8..4, usize::MAX - 3..usize::MAX] {
            let error = mapped.elements::<f32>(range.clone()).unwrap_err();
            assert!(matches!(error, MemError::MappedRange { file_len: 8, .. }), "{range:?}: {error}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_regular_file() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(MappedFile::open(folder.path()), Err(MemError::Map { .. })));
        assert!(matches!(MappedFile::open(&folder.path().join("absent")), Err(MemError::Map { .. })));
    }
}
