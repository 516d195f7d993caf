//! A checkpoint whose config and weights can be changed.

use std::collections::BTreeMap;
use std::fs;

use parity::golden_dir;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;

/// One tensor: its shape, its type and its bytes.
struct Stored {
    shape: Vec<usize>,
    dtype: Dtype,
    bytes: Vec<u8>,
}

/// `config.json` and `model.safetensors` of a golden checkpoint.
pub(crate) struct Checkpoint {
    pub(crate) config: Value,
    tensors: BTreeMap<String, Stored>,
}

impl Checkpoint {
    pub(crate) fn open(folder: &str) -> Checkpoint {
        let folder = golden_dir().join(folder);
        let config = serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
        let file = fs::read(folder.join("model.safetensors")).unwrap();
        let stored = |view: TensorView<'_>| Stored {
            shape: view.shape().to_vec(),
            dtype: view.dtype(),
            bytes: view.data().to_vec(),
        };
        let tensors = SafeTensors::deserialize(&file).unwrap().tensors();
        let tensors = tensors.into_iter().map(|(name, view)| (name, stored(view))).collect();
        Checkpoint { config, tensors }
    }

    /// As a file of safetensors.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let views = self.tensors.iter().map(|(name, Stored { shape, dtype, bytes })| {
            (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
        });
        safetensors::serialize(views, None).unwrap()
    }

    /// Sets a number of the config, at a path of keys.
    pub(crate) fn set(&mut self, path: &str, value: f64) {
        let known = self.config.pointer_mut(path).unwrap_or_else(|| panic!("the config has no {path}"));
        *known = value.into();
    }

    /// A number of the config.
    pub(crate) fn number(&self, path: &str) -> f64 {
        self.config
            .pointer(path)
            .and_then(Value::as_f64)
            .unwrap_or_else(|| panic!("the config has no {path}"))
    }

    /// The rows of a tensor `[rows]` or `[rows, columns]` of f32.
    pub(crate) fn rows(&self, name: &str) -> Vec<Vec<f32>> {
        let Stored { shape, dtype, bytes } = &self.tensors[name];
        assert_eq!(*dtype, Dtype::F32, "{name}");
        let columns = shape.get(1).copied().unwrap_or(1);
        let numbers = bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
        Vec::from_iter(numbers).chunks_exact(columns).map(<[f32]>::to_vec).collect()
    }

    /// Puts rows in the place of those that a tensor has.
    pub(crate) fn set_rows(&mut self, name: &str, rows: &[Vec<f32>]) {
        let bytes = Vec::from_iter(rows.iter().flatten().flat_map(|number| number.to_le_bytes()));
        let stored = self.tensors.get_mut(name).unwrap_or_else(|| panic!("there is no {name}"));
        assert_eq!(stored.bytes.len(), bytes.len(), "{name} keeps its shape");
        assert_ne!(stored.bytes, bytes, "{name} is to change");
        stored.bytes = bytes;
    }

    /// Changes the rows of a tensor.
    pub(crate) fn change(&mut self, name: &str, change: impl FnOnce(&mut Vec<Vec<f32>>)) {
        let mut rows = self.rows(name);
        change(&mut rows);
        self.set_rows(name, &rows);
    }

    /// Lets two tensors change places.
    pub(crate) fn exchange(&mut self, one: &str, other: &str) {
        let rows = [one, other].map(|name| self.rows(name));
        self.set_rows(one, &rows[1]);
        self.set_rows(other, &rows[0]);
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }
}
