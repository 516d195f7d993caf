//! ggml's 870 RoPE cases (test-backend-ops of ggml 0.21.0: 466 ROPE and 404 ROPE_BACK), in our terms:
//!
//! | ggml | here |
//! |---|---|
//! | `ne = [head_dim, heads, positions, batch]` | tokens are positions x batch, the positions repeat; of more than 64 tokens, 64 run |
//! | positions `rand() % 512` | drawn below 512, for each axis anew |
//! | mode normal, neox | pairs interleaved, halves |
//! | mrope | halves; ggml's three sections of `n_dims / 3` pairs, cut off after the `n_dims / 2` pairs that there are |
//! | imrope | halves; sections of one pair, which take the three axes in turn |
//! | vision | halves; two sections of `n_dims / 4` pairs, each with the frequencies of a width of `n_dims / 2` |
//! | freq_factors, freq_scale, ext_factor, attn_factor | LongRoPE's divisors and attention factor. ggml's ramp, with both betas 1 and no original context, is a step: the first pair alone is mixed |
//! | out of place | appended to a cache of the same type; `inplace` is `apply_rope` |
//! | ROPE_BACK | the inverse: the rotation of pairs whose elements are exchanged |
//! | views 1, 2 | [`View::Quarter`], [`View::SecondHalf`] |
//!
//! ggml's 34 cases of a window inside each head came after the version whose list is public in full. Their number, types,
//! modes and width 24 are known; heads `[80, 16, 2]` and the window's start at element 16 are chosen here.

use std::collections::HashMap;
use std::sync::Arc;

use device_mem::DType;
use kernels_rope::{Axes, Pairing, RopeConfig, Scaling};
use parity::SplitMix64;

use super::rotary::plain;
use super::{At, Case, Definition, Form, GgmlMode, Rotary, Values, View, WHOLE_CACHE};
use GgmlMode::{Imrope, Mrope, Neox, Normal, Vision};

const THETA: f64 = 10_000.0;
const CONTEXT: u32 = 512;
/// Tokens of a case that run.
const MOST_TOKENS: u32 = 64;
const MODES: [GgmlMode; 5] = [Normal, Neox, Mrope, Imrope, Vision];
const TYPES: [DType; 2] = [DType::F32, DType::F16];

/// `[head_dim, heads, positions]`, n_dims and mode: run with every parameter.
const ALWAYS: [([u32; 3], u32, GgmlMode); 2] = [([128, 32, 2], 128, Normal), ([64, 128, 2], 64, Neox)];
/// Run with f32 and the first scale, extension and attention factor.
const ONCE: [([u32; 3], u32, GgmlMode); 25] = [
    ([128, 40, 2], 128, Normal),
    ([128, 52, 2], 128, Normal),
    ([128, 64, 2], 128, Normal),
    ([16, 16, 8192], 16, Normal),
    ([64, 1, 2], 64, Neox),
    ([64, 71, 2], 64, Neox),
    ([64, 8, 2], 64, Neox),
    ([80, 32, 2], 20, Normal),
    ([80, 32, 2], 32, Normal),
    ([80, 32, 4], 32, Normal),
    ([80, 32, 2], 20, Neox),
    ([80, 32, 2], 32, Neox),
    ([80, 32, 4], 32, Neox),
    ([16, 16, 8192], 16, Neox),
    ([128, 12, 2], 128, Mrope),
    ([128, 28, 2], 128, Mrope),
    ([128, 12, 2], 20, Mrope),
    ([128, 28, 2], 32, Mrope),
    ([128, 12, 2], 128, Imrope),
    ([128, 28, 2], 128, Imrope),
    ([128, 12, 2], 20, Imrope),
    ([128, 28, 2], 32, Imrope),
    ([80, 16, 2], 80, Vision),
    ([128, 16, 2], 128, Imrope),
    ([16, 16, 8192], 16, Imrope),
];
const SCALES: [f64; 2] = [1.0, 1.4245];
const EXTENSIONS: [f64; 2] = [0.0, 0.7465];

/// What the frequencies depend on.
#[derive(Clone, Copy)]
struct Parameters {
    freq_scale: f64,
    ext_factor: f64,
    attn_factor: f64,
    freq_factors: bool,
}

impl Parameters {
    fn name(&self) -> String {
        let factors = if self.freq_factors { "-ff" } else { "" };
        format!("fs{}-ef{}-af{}{factors}", self.freq_scale, self.ext_factor, self.attn_factor)
    }
}

/// Shares rotary embeddings among cases.
struct List {
    seed: u64,
    rotaries: HashMap<String, Arc<Rotary>>,
    cases: Vec<Case>,
}

pub(super) fn cases(seed: u64) -> Vec<Case> {
    let mut list = List { seed, rotaries: HashMap::new(), cases: Vec::new() };
    for inverse in [false, true] {
        list.grid(inverse);
        for (dtype, mode) in TYPES.into_iter().flat_map(|dtype| MODES.map(|mode| (dtype, mode))) {
            for freq_factors in [false, true].into_iter().filter(|_| mode != Vision) {
                let parameters = Parameters { freq_factors, ..unscaled() };
                list.push(
                    (dtype, [24, 16, 2], 1),
                    (24, mode),
                    parameters,
                    View::Window(80, 16),
                    inverse,
                    false,
                );
            }
        }
    }
    list.in_place();
    list.cases
}

fn unscaled() -> Parameters {
    Parameters { freq_scale: 1.0, ext_factor: 0.0, attn_factor: 1.0, freq_factors: false }
}

impl List {
    /// The parametrised cases.
    fn grid(&mut self, inverse: bool) {
        let mut once = true;
        let combinations = SCALES.into_iter().flat_map(|freq_scale| {
            EXTENSIONS.into_iter().flat_map(move |ext_factor| {
                SCALES.map(|attn_factor| Parameters {
                    freq_scale,
                    ext_factor,
                    attn_factor,
                    freq_factors: false,
                })
            })
        });
        for (parameters, dtype) in combinations.flat_map(|parameters| TYPES.map(|dtype| (parameters, dtype)))
        {
            for freq_factors in [false, true] {
                let parameters = Parameters { freq_factors, ..parameters };
                for view in [View::Contiguous, View::Quarter] {
                    let shapes = ALWAYS.iter().chain(ONCE.iter().filter(|_| once));
                    for &(heads, n_dims, mode) in shapes {
                        self.push((dtype, heads, 1), (n_dims, mode), parameters, view, inverse, false);
                    }
                }
                for mode in MODES {
                    let heads = [36, 16, 2457];
                    self.push((dtype, heads, 1), (36, mode), parameters, View::SecondHalf, inverse, false);
                }
            }
            once = false;
        }
    }

    fn in_place(&mut self) {
        let scaled =
            Parameters { freq_scale: 1.4245, ext_factor: 0.7465, attn_factor: 1.4245, freq_factors: false };
        for (dtype, mode) in TYPES.into_iter().flat_map(|dtype| MODES.map(|mode| (dtype, mode))) {
            for freq_factors in [false, true] {
                let parameters = Parameters { freq_factors, ..scaled };
                for (view, batch) in [(View::Contiguous, 1), (View::Quarter, 1), (View::Quarter, 3)] {
                    self.push((dtype, [128, 32, 2], batch), (128, mode), parameters, view, false, true);
                }
            }
        }
        for dtype in TYPES {
            self.push((dtype, [24, 16, 2], 1), (24, Neox), unscaled(), View::Window(80, 16), false, true);
        }
    }

    fn push(
        &mut self,
        (dtype, [head_dim, heads, positions], batch): (DType, [u32; 3], u32),
        (n_dims, mode): (u32, GgmlMode),
        parameters: Parameters,
        view: View,
        inverse: bool,
        in_place: bool,
    ) {
        let rotary = self.rotary(head_dim, n_dims, mode, parameters);
        let tokens = (positions * batch).min(MOST_TOKENS);
        // One tensor: queries that stay, or keys that are appended.
        let (form, q_heads, kv_heads) =
            if in_place { (Form::Rotate, heads, 0) } else { (Form::Append(dtype, WHOLE_CACHE), 0, heads) };
        self.cases.push(Case {
            list: format!("ggml-{positions}x{batch}"),
            rotary,
            length: CONTEXT,
            tokens,
            q_heads,
            kv_heads,
            dtype,
            at: At::Below(CONTEXT),
            view,
            form,
            values: Values::Uniform,
            inverse,
        });
    }

    fn rotary(&mut self, head_dim: u32, n_dims: u32, mode: GgmlMode, parameters: Parameters) -> Arc<Rotary> {
        let label = format!("{}-{}", format!("{mode:?}").to_lowercase(), parameters.name());
        let key = format!("{label}-{head_dim}-{n_dims}");
        let seed = self.seed;
        let made = self.rotaries.entry(key).or_insert_with(|| {
            let mut random = SplitMix64::new(seed ^ u64::from(n_dims));
            let factor = |random: &mut SplitMix64| 1.0 + 0.1 * f64::from(random.uniform());
            let drawn =
                (0..n_dims / 2).map(|_| if parameters.freq_factors { factor(&mut random) } else { 1.0 });
            let freq_factors = drawn.collect::<Vec<_>>();
            let config = config(head_dim, n_dims, mode, parameters, &freq_factors);
            let Parameters { freq_scale, ext_factor, attn_factor, .. } = parameters;
            let definition = Definition::Ggml { mode, freq_scale, ext_factor, attn_factor, freq_factors };
            Arc::new(Rotary { label, config, definition })
        });
        made.clone()
    }
}

/// The same frequencies and factors by means of our contract.
fn config(
    head_dim: u32,
    n_dims: u32,
    mode: GgmlMode,
    parameters: Parameters,
    freq_factors: &[f64],
) -> RopeConfig {
    let pairing = if mode == Normal { Pairing::Interleaved } else { Pairing::Halves };
    let pairs = n_dims / 2;
    let third = (n_dims / 3).min(pairs);
    let axes = match mode {
        Normal | Neox => Axes::Single,
        Mrope => Axes::Sections(vec![third, pairs - third]),
        Imrope => Axes::Sections(vec![1; pairs as usize]),
        Vision => Axes::Sections(vec![pairs / 2, pairs / 2]),
    };
    let Parameters { freq_scale, ext_factor, attn_factor, .. } = parameters;
    let extends = ext_factor != 0.0;
    let divisors = (0..pairs).zip(freq_factors).map(|(pair, factor)| {
        let mixed = if pair == 0 { ext_factor } else { 0.0 };
        let restart = match mode {
            Vision => {
                THETA.powf((4.0 * f64::from(pair % (pairs / 2)) - 2.0 * f64::from(pair)) / f64::from(n_dims))
            }
            _ => 1.0,
        };
        restart * factor / (freq_scale * (1.0 - mixed) + mixed)
    });
    let divisors = divisors.collect::<Vec<_>>();
    let attention = if extends { attn_factor * (1.0 - 0.1 * freq_scale.ln()) } else { attn_factor };
    let scaling = Scaling::LongRope {
        factor: 1.0,
        short_factor: divisors.clone(),
        long_factor: divisors,
        trained_positions: CONTEXT,
        attention_factor: Some(attention),
    };
    RopeConfig { scaling, axes, ..plain(head_dim, n_dims, THETA, pairing) }
}
