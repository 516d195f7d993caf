//! How the tensors of a file are stored: llama.cpp's file types, and its choice for each tensor.

use std::fmt;
use std::str::FromStr;

use kernels_nn::BlockType;

use crate::gguf::TensorType;

/// How a tensor's elements are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// 4 bytes an element.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    BF16,
    /// Quantised blocks.
    Blocks(BlockType),
}

impl Stored {
    /// Bytes of a row of `columns` elements, which are whole blocks.
    pub fn row_bytes(self, columns: usize) -> usize {
        match self {
            Stored::F32 => columns * 4,
            Stored::F16 | Stored::BF16 => columns * 2,
            Stored::Blocks(block) => columns / block.block_len() * block.block_bytes(),
        }
    }

    /// ggml's name, in capitals.
    pub fn name(self) -> &'static str {
        match self {
            Stored::F32 => "F32",
            Stored::F16 => "F16",
            Stored::BF16 => "BF16",
            Stored::Blocks(block) => block.name(),
        }
    }

    /// ggml's number for the type. One that it does not know cannot be made: [`FileType::stored`] gives none such.
    pub(super) fn number(self) -> u32 {
        TensorType::from_name(self.name()).map_or(u32::MAX, TensorType::number)
    }
}

/// What a file is converted to. Vectors and norms stay F32 in all.
#[expect(non_camel_case_types, reason = "the names that ggml and every model page use")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileType {
    /// Every matrix in F32: lossless.
    F32,
    /// Every matrix in F16.
    F16,
    /// Every matrix in BF16: lossless for checkpoints in bf16.
    BF16,
    /// Every matrix in Q8_0.
    Q8_0,
    /// Every matrix in Q4_0.
    Q4_0,
    /// Every matrix in Q4_K.
    Q4_K,
    /// Every matrix in Q5_K.
    Q5_K,
    /// Every matrix in Q6_K.
    Q6_K,
    /// Q4_K, and Q6_K for the output, and for `attn_v` (or `attn_qkv`) and `ffn_down` in about half of the layers.
    Q4_K_M,
}

impl FileType {
    /// All of them.
    pub const ALL: [FileType; 9] = [
        FileType::F32,
        FileType::F16,
        FileType::BF16,
        FileType::Q8_0,
        FileType::Q4_0,
        FileType::Q4_K,
        FileType::Q5_K,
        FileType::Q6_K,
        FileType::Q4_K_M,
    ];

    /// The name that [`FileType::from_str`] reads, in any case.
    pub fn name(self) -> &'static str {
        match self {
            FileType::F32 => "F32",
            FileType::F16 => "F16",
            FileType::BF16 => "BF16",
            FileType::Q8_0 => "Q8_0",
            FileType::Q4_0 => "Q4_0",
            FileType::Q4_K => "Q4_K",
            FileType::Q5_K => "Q5_K",
            FileType::Q6_K => "Q6_K",
            FileType::Q4_K_M => "Q4_K_M",
        }
    }

    /// llama.cpp's number, `general.file_type`. `Q4_K` and `Q5_K` without a mixture are its `Q4_K_S` and `Q5_K_S`.
    pub(super) fn number(self) -> u32 {
        match self {
            FileType::F32 => 0,
            FileType::F16 => 1,
            FileType::Q4_0 => 2,
            FileType::Q8_0 => 7,
            FileType::Q4_K => 14,
            FileType::Q4_K_M => 15,
            FileType::Q5_K => 16,
            FileType::Q6_K => 18,
            FileType::BF16 => 32,
        }
    }

    /// How the matrix `role` with rows of `columns` elements is stored, as `llama_model_quantize` of llama.cpp does it, with
    /// its option `pure` for all types but `Q4_K_M`.
    pub(super) fn stored(self, role: Role, layers: usize, columns: usize) -> Stored {
        let block = match self {
            FileType::F32 => return Stored::F32,
            FileType::F16 => return Stored::F16,
            FileType::BF16 => return Stored::BF16,
            FileType::Q8_0 => BlockType::Q8_0,
            FileType::Q4_0 => BlockType::Q4_0,
            FileType::Q4_K => BlockType::Q4_K,
            FileType::Q5_K => BlockType::Q5_K,
            FileType::Q6_K => BlockType::Q6_K,
            FileType::Q4_K_M => match role {
                Role::Output => BlockType::Q6_K,
                Role::Value { layer } | Role::Down { layer } if more_bits(layer, layers) => BlockType::Q6_K,
                _ => BlockType::Q4_K,
            },
        };
        fitting(block, columns)
    }
}

/// What a matrix does, as far as mixtures tell matrices apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The output layer, or the embedding that is the output layer too.
    Output,
    /// `attn_v`, or `attn_qkv` that holds it.
    Value { layer: usize },
    /// `ffn_down`.
    Down { layer: usize },
    /// Any other.
    Other,
}

/// The layers that mixtures give more bits: the first eighth, the last, and every third between (`use_more_bits`).
fn more_bits(layer: usize, layers: usize) -> bool {
    let eighth = layers / 8;
    layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
}

/// `block`, or what llama.cpp takes where rows are not whole blocks of it (`tensor_type_fallback`).
fn fitting(block: BlockType, columns: usize) -> Stored {
    let whole = |block: BlockType| columns.is_multiple_of(block.block_len());
    let smaller = match block {
        block if whole(block) => block,
        BlockType::Q4_K => BlockType::Q5_0,
        BlockType::Q5_K => BlockType::Q5_1,
        BlockType::Q6_K => BlockType::Q8_0,
        block => block,
    };
    if whole(smaller) { Stored::Blocks(smaller) } else { Stored::F16 }
}

impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for FileType {
    type Err = String;

    fn from_str(text: &str) -> Result<FileType, String> {
        let named = FileType::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(text));
        named.ok_or_else(|| {
            format!(
                "expected {}, found {text:?}",
                FileType::ALL.map(|known| known.name().to_lowercase()).join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use kernels_nn::BlockType;

    use super::{FileType, Role, Stored, more_bits};

    #[test]
    fn names_are_read_back() {
        for known in FileType::ALL {
            assert_eq!(known.name().to_lowercase().parse(), Ok(known));
        }
        assert!("q3_k".parse::<FileType>().is_err());
    }

    /// GLM-4-9B: rows of 13696 elements are 53.5 blocks of 256.
    #[test]
    fn rows_that_are_no_blocks_of_256_fall_back() {
        let stored = |file: FileType, role, columns| file.stored(role, 40, columns).name();
        let down = Role::Down { layer: 6 };
        assert_eq!(stored(FileType::Q4_K_M, Role::Other, 4096), "Q4_K");
        assert_eq!(stored(FileType::Q4_K_M, Role::Output, 4096), "Q6_K");
        assert_eq!(stored(FileType::Q4_K_M, Role::Down { layer: 5 }, 13696), "Q5_0");
        assert_eq!(stored(FileType::Q4_K_M, Role::Down { layer: 0 }, 13696), "Q8_0");
        assert_eq!(stored(FileType::Q5_K, down, 13696), "Q5_1");
        assert_eq!(stored(FileType::Q6_K, down, 13696), "Q8_0");
        assert_eq!(stored(FileType::Q4_K, down, 13696), "Q5_0");
        assert_eq!(stored(FileType::Q4_0, down, 13696), "Q4_0");
        assert_eq!(stored(FileType::Q8_0, down, 100), "F16");
        assert_eq!(stored(FileType::Q4_K_M, down, 100), "F16");
        assert_eq!(FileType::F32.stored(down, 40, 100), Stored::F32);
        assert_eq!(
            FileType::Q4_0.stored(Role::Output, 40, 4096),
            Stored::Blocks(BlockType::Q4_0),
            "as with pure"
        );
    }

    #[test]
    fn half_of_the_layers_get_more_bits() {
        let more: Vec<usize> = (0..40).filter(|&layer| more_bits(layer, 40)).collect();
        let expected = [0, 1, 2, 3, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31, 34, 35, 36, 37, 38, 39];
        assert_eq!(more, expected);
    }
}
