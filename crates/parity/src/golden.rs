use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use thiserror::Error;

/// The folder of the committed golden data, `tests/golden` of the workspace.
pub fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

/// What can go wrong with a golden file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GoldenError {
    /// The file cannot be read.
    #[error("{} could not be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The file or one of its tensors is damaged or missing.
    #[error("{}: tensor {tensor:?}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor; empty for the header.
        tensor: String,
        /// The reader's reason.
        #[source]
        source: safetensors::SafeTensorError,
    },
    /// The tensor holds another type.
    #[error("{}: tensor {tensor:?} holds {found}, expected {expected}", path.display())]
    DType {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The type that was asked for.
        expected: Dtype,
        /// The type in the file.
        found: Dtype,
    },
}

/// A safetensors file of golden data, read whole.
#[derive(Debug)]
pub struct Golden {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Golden {
    /// Reads a file below [`golden_dir`], such as `rope/hd128_p05.safetensors`.
    ///
    /// # Errors
    /// [`GoldenError::Read`] and [`GoldenError::Tensor`].
    pub fn open(file: &str) -> Result<Golden, GoldenError> {
        let path = golden_dir().join(file);
        let bytes =
            std::fs::read(&path).map_err(|source| GoldenError::Read { path: path.clone(), source })?;
        let golden = Golden { path, bytes };
        golden.tensors()?;
        Ok(golden)
    }

    /// Names of all tensors.
    ///
    /// # Errors
    /// [`GoldenError::Tensor`].
    pub fn names(&self) -> Result<Vec<String>, GoldenError> {
        Ok(self.tensors()?.names().into_iter().map(str::to_owned).collect())
    }

    /// The shape of a tensor.
    ///
    /// # Errors
    /// [`GoldenError::Tensor`].
    pub fn shape(&self, tensor: &str) -> Result<Vec<usize>, GoldenError> {
        Ok(self.tensors()?.tensor(tensor).map_err(|source| self.error(tensor, source))?.shape().to_vec())
    }

    /// A tensor of f32.
    ///
    /// # Errors
    /// [`GoldenError::Tensor`], [`GoldenError::DType`].
    pub fn f32(&self, tensor: &str) -> Result<Vec<f32>, GoldenError> {
        self.values(tensor, Dtype::F32, f32::from_le_bytes)
    }

    /// A tensor of f64.
    ///
    /// # Errors
    /// [`GoldenError::Tensor`], [`GoldenError::DType`].
    pub fn f64(&self, tensor: &str) -> Result<Vec<f64>, GoldenError> {
        self.values(tensor, Dtype::F64, f64::from_le_bytes)
    }

    /// A tensor of i64.
    ///
    /// # Errors
    /// [`GoldenError::Tensor`], [`GoldenError::DType`].
    pub fn i64(&self, tensor: &str) -> Result<Vec<i64>, GoldenError> {
        self.values(tensor, Dtype::I64, i64::from_le_bytes)
    }

    /// A tensor of u8.
    ///
    /// # Errors
    /// [`GoldenError::Tensor`], [`GoldenError::DType`].
    pub fn u8(&self, tensor: &str) -> Result<Vec<u8>, GoldenError> {
        self.values(tensor, Dtype::U8, u8::from_le_bytes)
    }

    fn values<T, const SIZE: usize>(
        &self,
        tensor: &str,
        expected: Dtype,
        read: fn([u8; SIZE]) -> T,
    ) -> Result<Vec<T>, GoldenError> {
        let tensors = self.tensors()?;
        let view = tensors.tensor(tensor).map_err(|source| self.error(tensor, source))?;
        if view.dtype() != expected {
            let (path, tensor, found) = (self.path.clone(), tensor.to_owned(), view.dtype());
            return Err(GoldenError::DType { path, tensor, expected, found });
        }
        let (elements, _) = view.data().as_chunks::<SIZE>();
        Ok(elements.iter().map(|&bytes| read(bytes)).collect())
    }

    fn tensors(&self) -> Result<SafeTensors<'_>, GoldenError> {
        SafeTensors::deserialize(&self.bytes).map_err(|source| self.error("", source))
    }

    fn error(&self, tensor: &str, source: safetensors::SafeTensorError) -> GoldenError {
        GoldenError::Tensor { path: self.path.clone(), tensor: tensor.to_owned(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_goldens_read() {
        let rope = Golden::open("rope/hd128_p05.safetensors").unwrap();
        assert_eq!(rope.i64("positions").unwrap()[7], 1_048_575);
        assert_eq!(rope.shape("q").unwrap(), [2, 8, 128]);
        assert_eq!(rope.f32("q").unwrap().len(), 2 * 8 * 128);
        assert!(matches!(rope.f32("positions"), Err(GoldenError::DType { .. })));
        assert!(matches!(rope.f32("no such tensor"), Err(GoldenError::Tensor { .. })));
        assert!(matches!(Golden::open("no such file"), Err(GoldenError::Read { .. })));
    }
}
