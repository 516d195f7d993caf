//! A golden checkpoint in a folder of its own, to be changed.

use std::fs;
use std::path::Path;

use parity::golden_dir;
use safetensors::SafeTensors;
use serde_json::Value;
use tempfile::TempDir;

pub(crate) struct Checkpoint {
    folder: TempDir,
}

impl Checkpoint {
    pub(crate) fn golden() -> Checkpoint {
        let (folder, golden) = (tempfile::tempdir().unwrap(), golden_dir().join("glm4"));
        for name in ["config.json", "model.safetensors"] {
            fs::copy(golden.join(name), folder.path().join(name)).unwrap();
        }
        Checkpoint { folder }
    }

    pub(crate) fn folder(self) -> TempDir {
        self.folder
    }

    /// Changes the config.
    pub(crate) fn config(self, change: impl FnOnce(&mut Value)) -> Checkpoint {
        let path = self.folder.path().join("config.json");
        let mut config = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut config);
        self.with("config.json", config.to_string())
    }

    /// Writes the bytes at an element of a tensor.
    pub(crate) fn element(self, tensor: &str, index: usize, bytes: &[u8]) -> Checkpoint {
        let mut file = fs::read(self.folder.path().join("model.safetensors")).unwrap();
        let (header, metadata) = SafeTensors::read_metadata(&file).unwrap();
        let start = 8 + header + metadata.info(tensor).unwrap().data_offsets.0 + index * bytes.len();
        file[start..start + bytes.len()].copy_from_slice(bytes);
        self.with("model.safetensors", file)
    }

    pub(crate) fn with(self, name: &str, bytes: impl AsRef<[u8]>) -> Checkpoint {
        fs::write(self.path().join(name), bytes).unwrap();
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}
