//! The cases, as data.

use attention::KvDType;

const KV_TYPES: [KvDType; 3] = [KvDType::F32, KvDType::F16, KvDType::BF16];

/// Queries are uniform in [-1, 1) times this: logits that leave all weights alike, and some that leave few.
const Q_SCALES: [f32; 2] = [1.0, 8.0];

/// What a cache holds as values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Values {
    Own,
    /// The first elements of each key, and zeros, as multi-head latent attention has it (DeepSeek-V2).
    OfKeys(u32),
}

/// One pass over a cache.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Case {
    /// What the case is about.
    area: &'static str,
    pub(crate) q_heads: u32,
    pub(crate) kv_heads: u32,
    pub(crate) head_dim: u32,
    /// Tokens in the cache before the pass.
    pub(crate) before: u32,
    pub(crate) tokens: u32,
    /// Tokens that all tokens see.
    pub(crate) prefix: u32,
    pub(crate) dtype: KvDType,
    /// Tokens of a block of a cache whose blocks lie in no order; `None` for a contiguous one.
    pub(crate) block: Option<u32>,
    pub(crate) q_scale: f32,
    pub(crate) values: Values,
}

impl Case {
    /// Tokens in the cache after the pass.
    pub(crate) fn end(&self) -> u32 {
        self.before + self.tokens
    }

    /// A name that tells the case from all others: area, heads, width, tokens of the pass and before it, type, and what else.
    pub(crate) fn name(&self) -> String {
        let Case { area, q_heads, kv_heads, head_dim, before, tokens, prefix, dtype, .. } = self;
        let heads = format!("h{q_heads}-{kv_heads}/d{head_dim}");
        let mut name = format!("{area}/{heads}/t{tokens}+{before}/{}", dtype.dtype());
        if *prefix > 0 {
            name += &format!("/prefix{prefix}");
        }
        if let Some(block) = self.block {
            name += &format!("/blocks{block}");
        }
        if let Values::OfKeys(width) = self.values {
            name += &format!("/v{width}");
        }
        name + &format!("/q{}", self.q_scale)
    }
}

/// All of them. Areas vary what they are about, with every type of cache and both scales of logits, at few shapes.
pub(crate) fn cases() -> Vec<Case> {
    [lengths(), groups(), widths(), ggml(), paged(), prefixes(), latent()].concat()
}

/// The case of `end` tokens, the last `tokens` of them in the pass, with every type and scale.
fn of_each_type(area: &'static str, heads: (u32, u32, u32), end: u32, tokens: u32) -> Vec<Case> {
    let (q_heads, kv_heads, head_dim) = heads;
    let case = |dtype, q_scale| Case {
        area,
        q_heads,
        kv_heads,
        head_dim,
        before: end - tokens,
        tokens,
        prefix: 0,
        dtype,
        block: None,
        q_scale,
        values: Values::Own,
    };
    KV_TYPES.into_iter().flat_map(|dtype| Q_SCALES.map(|q_scale| case(dtype, q_scale))).collect()
}

/// Around the blocks of the CPU (32 keys), the rows (16), tiles (64 rows, 32 keys), chunks (256 keys) and spans (1024) of a card,
/// by tokens that a card attends alone, in rows and in tiles.
fn lengths() -> Vec<Case> {
    let around = |tile: u32| [tile - 1, tile, tile + 1];
    let short =
        (1..=6).chain([15, 16, 17, 31, 32, 33].into_iter().chain([64, 128].into_iter().flat_map(around)));
    let long = [256, 512, 1024].into_iter().flat_map(around);
    let heads = [(2, 1, 64), (5, 1, 40), (4, 2, 128)];
    let mut cases = Vec::new();
    for end in short.chain(long) {
        for (index, heads) in heads.into_iter().enumerate() {
            let of_this = [1, 2, 15, 16, 17, 33].into_iter().filter(|&tokens| tokens <= end);
            // Long ones take their time: a third of them for each shape.
            let some = of_this.enumerate().filter(|(turn, _)| end < 200 || turn % 3 == index);
            cases.extend(some.flat_map(|(_, tokens)| of_each_type("lengths", heads, end, tokens)));
        }
    }
    cases
}

fn groups() -> Vec<Case> {
    let mut cases = Vec::new();
    for group in 1..=32 {
        for (kv_heads, end, tokens) in [(1, 37, 1), (2, 21, 5), (3, 12, 2), (1, 19, 19)] {
            cases.extend(of_each_type("groups", (group * kv_heads, kv_heads, 40), end, tokens));
        }
    }
    cases
}

fn widths() -> Vec<Case> {
    let odd = [1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 65, 79, 100, 127, 129, 191, 193, 255];
    let mut cases = Vec::new();
    for head_dim in odd.into_iter().chain((40..=256).step_by(8)) {
        for (end, tokens) in [(70, 1), (34, 3), (35, 17)] {
            cases.extend(of_each_type("widths", (2, 1, head_dim), end, tokens));
        }
    }
    cases
}

/// Widths, lengths, batches and groups of ggml's `test-backend-ops`, as far as they are causal attention over a cache without
/// sinks, slopes and caps.
fn ggml() -> Vec<Case> {
    let mut cases = Vec::new();
    for head_dim in [40, 64, 72, 80, 96, 128, 192, 256] {
        for group in [1, 4] {
            for (end, tokens) in [(113, 1), (113, 3), (113, 32), (512, 1)] {
                cases.extend(of_each_type("ggml", (group, 1, head_dim), end, tokens));
            }
        }
        cases.extend(of_each_type("ggml", (1, 1, head_dim), 113, 75));
        cases.extend(of_each_type("ggml", (4, 1, head_dim), 1024, 1));
    }
    cases
}

fn paged() -> Vec<Case> {
    let mut cases = Vec::new();
    for block in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512] {
        for (turn, end) in [31, 65, 129, 257].into_iter().enumerate() {
            for tokens in [1, 2, 3, 17] {
                let heads = [(4, 2, 64), (17, 1, 40), (2, 2, 16), (8, 2, 32)][turn];
                let contiguous = of_each_type("paged", heads, end, tokens);
                cases.extend(contiguous.into_iter().map(|case| Case { block: Some(block), ..case }));
            }
        }
    }
    cases
}

fn prefixes() -> Vec<Case> {
    let mut cases = Vec::new();
    for (end, tokens) in [(33, 33), (70, 38), (64, 1), (129, 17), (300, 20)] {
        for prefix in [1, 2, 15, 32, 33, end / 2, end - 1, end] {
            let causal = of_each_type("prefixes", (3, 1, 48), end, tokens);
            let paged = of_each_type("prefixes", (4, 2, 64), end, tokens);
            let paged = paged.into_iter().map(|case| Case { block: Some(16), ..case });
            let with_prefix = causal.into_iter().chain(paged).map(|case| Case { prefix, ..case });
            cases.extend(with_prefix.filter(|case| case.prefix <= case.end()));
        }
    }
    // Halves of the length are among the others where those are as long.
    cases.sort_by_key(Case::name);
    cases.dedup();
    cases
}

/// Keys of 576 elements, the first 512 of which are the values.
fn latent() -> Vec<Case> {
    let mut cases = Vec::new();
    for group in [1, 16, 20] {
        for (end, tokens) in [(1, 1), (33, 1), (113, 3), (40, 40)] {
            let own = of_each_type("latent", (group, 1, 576), end, tokens);
            cases.extend(own.into_iter().map(|case| Case { values: Values::OfKeys(512), ..case }));
        }
    }
    cases
}
