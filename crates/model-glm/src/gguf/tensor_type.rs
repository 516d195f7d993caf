/// How a tensor's elements are stored: ggml's name and the size of a block. Plain types have blocks of one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorType {
    number: u32,
    name: &'static str,
    block_len: u64,
    block_bytes: u64,
}

const fn of(number: u32, name: &'static str, block_len: u64, block_bytes: u64) -> TensorType {
    TensorType { number, name, block_len, block_bytes }
}

/// As `GGML_QUANT_SIZES` of gguf-py has them. Numbers that are not here were withdrawn or never given.
const TYPES: [TensorType; 34] = [
    of(0, "F32", 1, 4),
    of(1, "F16", 1, 2),
    of(2, "Q4_0", 32, 18),
    of(3, "Q4_1", 32, 20),
    of(6, "Q5_0", 32, 22),
    of(7, "Q5_1", 32, 24),
    of(8, "Q8_0", 32, 34),
    of(9, "Q8_1", 32, 36),
    of(10, "Q2_K", 256, 84),
    of(11, "Q3_K", 256, 110),
    of(12, "Q4_K", 256, 144),
    of(13, "Q5_K", 256, 176),
    of(14, "Q6_K", 256, 210),
    of(15, "Q8_K", 256, 292),
    of(16, "IQ2_XXS", 256, 66),
    of(17, "IQ2_XS", 256, 74),
    of(18, "IQ3_XXS", 256, 98),
    of(19, "IQ1_S", 256, 50),
    of(20, "IQ4_NL", 32, 18),
    of(21, "IQ3_S", 256, 110),
    of(22, "IQ2_S", 256, 82),
    of(23, "IQ4_XS", 256, 136),
    of(24, "I8", 1, 1),
    of(25, "I16", 1, 2),
    of(26, "I32", 1, 4),
    of(27, "I64", 1, 8),
    of(28, "F64", 1, 8),
    of(29, "IQ1_M", 256, 56),
    of(30, "BF16", 1, 2),
    of(34, "TQ1_0", 256, 54),
    of(35, "TQ2_0", 256, 66),
    of(39, "MXFP4", 32, 17),
    of(40, "NVFP4", 64, 36),
    of(41, "Q1_0", 128, 18),
];

impl TensorType {
    /// The type of a number in the file, if ggml gives it.
    pub fn from_number(number: u32) -> Option<TensorType> {
        TYPES.into_iter().find(|known| known.number == number)
    }

    /// The type of ggml's name.
    pub(super) fn from_name(name: &str) -> Option<TensorType> {
        TYPES.into_iter().find(|known| known.name == name)
    }

    /// The number in the file.
    pub fn number(self) -> u32 {
        self.number
    }

    /// ggml's name, in capitals.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Elements of a block.
    pub fn block_len(self) -> u64 {
        self.block_len
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> u64 {
        self.block_bytes
    }
}
