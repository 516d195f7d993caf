//! The cases, as data.

use device_mem::DType;
use kernels_nn::SamplerConfig;

/// What a case runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Operation {
    /// `out_features`, the type of the weight, and whether there is a bias.
    Linear {
        out_features: usize,
        dtype: DType,
        biased: bool,
    },
    /// Out of place and in place.
    Norm {
        eps: f32,
    },
    /// The residual connection and the norm behind it.
    AddNorm {
        eps: f32,
    },
    SwiGlu,
    Sample(SamplerConfig),
}

/// One operation on `rows` rows of `width` elements, which are uniform in [-1, 1) times `magnitude`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Case {
    pub(crate) operation: Operation,
    pub(crate) rows: usize,
    pub(crate) width: usize,
    pub(crate) magnitude: f32,
}

impl Case {
    /// A name that tells the case from all others.
    pub(crate) fn name(&self) -> String {
        let Case { operation, rows, width, magnitude } = self;
        let size = format!("{rows}x{width}/m{magnitude:e}");
        match operation {
            Operation::Linear { out_features, dtype, biased } => {
                let bias = if *biased { "/bias" } else { "" };
                format!("linear/{dtype}/o{out_features}/{size}{bias}")
            }
            Operation::Norm { eps } => format!("norm/{size}/eps{eps:e}"),
            Operation::AddNorm { eps } => format!("add-norm/{size}/eps{eps:e}"),
            Operation::SwiGlu => format!("swiglu/{size}"),
            Operation::Sample(SamplerConfig { temperature, top_k, top_p, .. }) => {
                format!("sample/{size}/t{temperature:e}/k{top_k}/p{top_p:e}")
            }
        }
    }
}

pub(crate) fn cases() -> Vec<Case> {
    [linear(), norms(), gates(), samples()].concat()
}

/// Around tiles of tokens (4, 8, 16, 64), of rows (4, 32, 128), units (4, 8), steps (16, 32), parts (256) and blocks (2048) of
/// elements. Weights stay below 1, so that a product is as large as the activation.
fn linear() -> Vec<Case> {
    let tokens = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 65];
    let features = [
        (1, 1),
        (3, 7),
        (4, 8),
        (5, 9),
        (7, 63),
        (8, 64),
        (9, 65),
        (31, 255),
        (32, 256),
        (33, 257),
        (65, 33),
        (130, 16),
        (4, 520),
        (2, 2049),
    ];
    let mut cases = Vec::new();
    for rows in tokens {
        for (out_features, width) in features {
            for dtype in [DType::F32, DType::F16, DType::BF16] {
                for (biased, magnitude) in [(false, 1.0), (true, 1.0), (false, 3e4), (true, 1e-4)] {
                    let operation = Operation::Linear { out_features, dtype, biased };
                    cases.push(Case { operation, rows, width, magnitude });
                }
            }
        }
    }
    cases
}

/// Around groups of lanes (32), lanes (256) and blocks (1024). The last magnitudes square beyond the range of f32, on either side.
fn norms() -> Vec<Case> {
    let widths = [1, 2, 7, 31, 32, 33, 255, 256, 257, 1000, 1025, 4096];
    let mut cases = Vec::new();
    for (rows, width) in [1, 3].into_iter().flat_map(|rows| widths.map(|width| (rows, width))) {
        for magnitude in [1.0, 1e-3, 7e4, 1e-18, 1e30] {
            for eps in [1e-5, 1.5625e-7, 0.0] {
                cases.push(Case { operation: Operation::Norm { eps }, rows, width, magnitude });
            }
            cases.push(Case { operation: Operation::AddNorm { eps: 1e-5 }, rows, width, magnitude });
        }
    }
    cases
}

/// Up to where the exponential overflows; the last magnitude leaves it 1.
fn gates() -> Vec<Case> {
    let widths = [1, 2, 31, 32, 33, 255, 256, 257, 1000, 1025, 2048, 4097];
    let mut cases = Vec::new();
    for (rows, width) in [1, 3].into_iter().flat_map(|rows| widths.map(|width| (rows, width))) {
        for magnitude in [1.0, 30.0, 80.0, 1e-10] {
            cases.push(Case { operation: Operation::SwiGlu, rows, width, magnitude });
        }
    }
    cases
}

/// Around groups of lanes, what a block takes at a time, and lists of candidates; rules that leave one, few and all.
fn samples() -> Vec<Case> {
    let rules = [
        (0.0, 0, 1.0),
        (1.0, 0, 1.0),
        (0.7, 0, 1.0),
        (1.0, 1, 1.0),
        (1.3, 40, 1.0),
        (1.0, 0, 0.9),
        (0.95, 50, 0.7),
        (30.0, 700, 0.999),
        (0.02, 3, 0.5),
    ];
    let mut cases = Vec::new();
    for width in [1, 2, 31, 33, 1023, 1024, 1025, 2050, 8193] {
        for (temperature, top_k, top_p) in rules {
            for magnitude in [12.0, 0.01] {
                let operation = Operation::Sample(SamplerConfig { temperature, top_k, top_p, seed: 0 });
                cases.push(Case { operation, rows: 3, width, magnitude });
            }
        }
    }
    cases
}
