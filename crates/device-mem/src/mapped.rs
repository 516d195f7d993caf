use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use memmap2::Mmap;

use crate::torn::Guard;
use crate::{Element, MemError};

/// A file mapped read-only, shared by the buffers that borrow from it.
///
/// The operating system pages the bytes in when they are read. A file that is rewritten while it is mapped gives its old
/// bytes or its new ones. Of one that is cut, or that can no longer be read, the missing bytes are read as zeros, and
/// [`MappedFile::expect_whole`] fails from then on: ask it before a result of these bytes is used.
#[derive(Clone, Debug)]
pub struct MappedFile {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    file: File,
    state: State,
    /// Looks after the mapping, and so ends before it.
    guard: Guard,
    map: Mmap,
}

/// What tells that a file was written to.
#[derive(Debug, PartialEq, Eq)]
struct State {
    bytes: u64,
    modified: Option<SystemTime>,
}

impl State {
    fn of(file: &File) -> io::Result<State> {
        let found = file.metadata()?;
        Ok(State { bytes: found.len(), modified: found.modified().ok() })
    }
}

impl MappedFile {
    /// Maps the regular file at `path`.
    ///
    /// # Errors
    /// [`MemError::Map`] when the file cannot be opened, is not a regular file, or cannot be mapped.
    pub fn open(path: &Path) -> Result<MappedFile, MemError> {
        let fail = |source| MemError::Map { path: path.to_owned(), source };
        // Opening a pipe would wait for its writer.
        if !fs::metadata(path).map_err(fail)?.is_file() {
            return Err(fail(io::Error::other("not a regular file")));
        }
        let file = File::open(path).map_err(fail)?;
        let state = State::of(&file).map_err(fail)?;
        // SAFETY: `Mmap::map` asks that the file is not modified while mapped. No process can promise that for
        // another. What is lent are plain bytes, of which any are valid; those that a cut takes away are read as zeros,
        // which the guard sees to; and every range is checked against the mapped length.
        let map = unsafe { Mmap::map(&file) }.map_err(fail)?;
        let guard = Guard::new(&map);
        Ok(MappedFile { inner: Arc::new(Inner { path: path.to_owned(), file, state, guard, map }) })
    }

    /// Fails when bytes of it could not be read, since it was opened. It costs next to nothing.
    ///
    /// # Errors
    /// [`MemError::Torn`].
    pub fn expect_whole(&self) -> Result<(), MemError> {
        match self.inner.guard.is_torn() {
            true => Err(MemError::Torn { path: self.inner.path.clone() }),
            false => Ok(()),
        }
    }

    /// Fails when it was cut, or its length or time of change is another than when it was opened. It asks the
    /// operating system.
    ///
    /// # Errors
    /// [`MemError::Torn`], [`MemError::Changed`].
    pub fn expect_unchanged(&self) -> Result<(), MemError> {
        self.expect_whole()?;
        match State::of(&self.inner.file).is_ok_and(|state| state == self.inner.state) {
            true => Ok(()),
            false => Err(MemError::Changed { path: self.inner.path.clone() }),
        }
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

    /// What a page of a file and the one behind it hold, in a mapping of more pages than any file system reads ahead.
    #[test]
    fn a_file_that_is_cut_reads_as_zeros_and_is_told() {
        const PAGE: usize = 1 << 16;
        let file = file(&vec![7; 64 * PAGE]);
        let [mapped, other] = [0, 1].map(|_| MappedFile::open(file.path()).unwrap());
        mapped.expect_unchanged().unwrap();
        file.as_file().set_len(2 * PAGE as u64).unwrap();
        mapped.expect_whole().unwrap();
        let error = mapped.expect_unchanged().unwrap_err();
        assert!(matches!(error, MemError::Changed { .. }), "{error}");

        // From the back, so that a place is filled more than once; and from a thread of its own.
        assert_eq!(mapped.bytes()[63 * PAGE], 0);
        std::thread::scope(|scope| {
            scope.spawn(|| assert_eq!(mapped.bytes()[5 * PAGE..][..PAGE], [0; PAGE]));
        });
        assert!(matches!(mapped.expect_whole(), Err(MemError::Torn { .. })));
        assert!(matches!(mapped.expect_unchanged(), Err(MemError::Torn { .. })));
        let sum = mapped.bytes().iter().map(|&byte| usize::from(byte)).sum::<usize>();
        assert_eq!(sum, 7 * 2 * PAGE, "what is left is read as it was");

        other.expect_whole().unwrap();
        assert_eq!(other.bytes()[63 * PAGE], 0);
        other.expect_whole().unwrap_err();
        drop((mapped, other));
        file.as_file().set_len(64 * PAGE as u64).unwrap();
        let again = MappedFile::open(file.path()).unwrap();
        assert_eq!(again.bytes()[63 * PAGE], 0);
        again.expect_unchanged().unwrap();
    }

    #[test]
    fn a_file_that_is_rewritten_is_told() {
        let mut file = file(&[1; 64]);
        let mapped = MappedFile::open(file.path()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        file.write_all(&[2; 8]).unwrap();
        let error = mapped.expect_unchanged().unwrap_err();
        assert!(matches!(error, MemError::Changed { .. }), "{error}");
        mapped.expect_whole().unwrap();
    }

    #[test]
    fn a_pipe_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(matches!(MappedFile::open(&pipe), Err(MemError::Map { .. })));
    }
}
