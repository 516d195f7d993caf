use half::f16;

use crate::RopeError;
use crate::scaling::{Scaling, check_scaling, scaled_frequencies};

/// Which elements of a head form the plane that is rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pairing {
    /// `(2i, 2i + 1)`: ChatGLM2/3, `glm`, `glm4`, `glm4_moe_lite`.
    Interleaved,
    /// `(i, i + rotary_dim / 2)`: `glm4_moe`, Llama, GPT-NeoX.
    Halves,
}

/// Which position a pair is rotated by, for tokens that have more than one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Axes {
    /// One position per token.
    Single,
    /// M-RoPE: three positions per token (time, height, width). The pairs fall into sections of these lengths,
    /// and section `j` is rotated by axis `j mod 3`.
    Sections(Vec<u32>),
    /// ChatGLM-6B: the rotated part falls into two blocks of `rotary_dim / 2` elements, each paired within itself
    /// and with frequencies of its own width; the first is rotated by the position, the second by the block
    /// position.
    TwoBlocks,
}

impl Axes {
    /// Positions per token: 1, 3 or 2.
    pub fn count(&self) -> usize {
        match self {
            Axes::Single => 1,
            Axes::Sections(_) => 3,
            Axes::TwoBlocks => 2,
        }
    }
}

/// How the model was trained to see its frequencies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum InvFreq {
    /// In full precision.
    #[default]
    Exact,
    /// Rounded to f16: ChatGLM-6B stores them so and was run so.
    RoundedToF16,
}

/// A rotary embedding as a model's config describes it; [`RopeSpec::new`] checks it.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeConfig {
    /// Width of a head, in elements.
    pub head_dim: u32,
    /// Rotated elements at the start of each head: even, `2..=head_dim`. The rest passes through.
    pub rotary_dim: u32,
    /// Base of the frequencies (`rope_theta`). Configs with a `rope_ratio` mean [`theta_from_ratio`].
    pub theta: f64,
    /// Which elements form a pair.
    pub pairing: Pairing,
    /// How the frequencies are stretched for long contexts.
    pub scaling: Scaling,
    /// Which position rotates which pair.
    pub axes: Axes,
    /// Rounding of the frequencies.
    pub inv_freq: InvFreq,
}

/// The base that `rope_ratio` of ChatGLM3 and glm-4-9b-chat stands for: `10000 * ratio`.
///
/// ```
/// assert_eq!(kernels_rope::theta_from_ratio(500.0), 5_000_000.0);
/// ```
pub fn theta_from_ratio(rope_ratio: f64) -> f64 {
    10_000.0 * rope_ratio
}

/// A rotary embedding whose parameters are proven to make sense.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeSpec {
    config: RopeConfig,
}

impl RopeSpec {
    /// Checks every parameter.
    ///
    /// # Errors
    /// [`RopeError::RotaryDim`], [`RopeError::TwoBlocks`], [`RopeError::Theta`], [`RopeError::Scaling`],
    /// [`RopeError::FactorCount`], [`RopeError::Factor`], [`RopeError::Sections`] or [`RopeError::Frequency`].
    pub fn new(config: RopeConfig) -> Result<RopeSpec, RopeError> {
        let RopeConfig { head_dim, rotary_dim, theta, .. } = config;
        if rotary_dim < 2 || rotary_dim % 2 != 0 || rotary_dim > head_dim {
            return Err(RopeError::RotaryDim { rotary_dim, head_dim });
        }
        if !(theta.is_finite() && theta > 0.0) {
            return Err(RopeError::Theta { theta });
        }
        match &config.axes {
            Axes::Single => {}
            Axes::Sections(sections) => {
                let found = sections.iter().map(|&pairs| u64::from(pairs)).fold(0, u64::saturating_add);
                if found != u64::from(rotary_dim / 2) {
                    return Err(RopeError::Sections { expected: rotary_dim / 2, found });
                }
            }
            Axes::TwoBlocks if rotary_dim % 4 != 0 => return Err(RopeError::TwoBlocks { rotary_dim }),
            Axes::TwoBlocks => {}
        }
        let spec = RopeSpec { config };
        check_scaling(&spec.config.scaling, theta, spec.frequency_dim())?;
        spec.check_frequencies(&spec.inv_freq(1))?;
        Ok(spec)
    }

    /// Width of a head, in elements.
    pub fn head_dim(&self) -> u32 {
        self.config.head_dim
    }

    /// Rotated elements at the start of each head.
    pub fn rotary_dim(&self) -> u32 {
        self.config.rotary_dim
    }

    /// Rotated pairs of a head: `rotary_dim / 2`.
    pub fn pairs(&self) -> u32 {
        self.config.rotary_dim / 2
    }

    /// Base of the frequencies.
    pub fn theta(&self) -> f64 {
        self.config.theta
    }

    /// Which elements form a pair.
    pub fn pairing(&self) -> Pairing {
        self.config.pairing
    }

    /// How the frequencies are stretched.
    pub fn scaling(&self) -> &Scaling {
        &self.config.scaling
    }

    /// Which position rotates which pair.
    pub fn axes(&self) -> &Axes {
        &self.config.axes
    }

    /// Distance between the two elements of a pair. Pair `p` is made of the elements
    /// `a = (p / span) * 2 * span + p % span` and `b = a + span`.
    pub fn pair_span(&self) -> u32 {
        match (self.config.pairing, &self.config.axes) {
            (Pairing::Interleaved, _) => 1,
            (Pairing::Halves, Axes::TwoBlocks) => self.pairs() / 2,
            (Pairing::Halves, _) => self.pairs(),
        }
    }

    /// Frequencies `[rotary_dim / 2]` in radians per position, for a sequence of `length` positions. Only
    /// [`Scaling::Dynamic`] and [`Scaling::LongRope`] depend on `length`.
    ///
    /// `theta^(-2i / width)` (Su et al., RoFormer), scaled as transformers' `modeling_rope_utils` does, in f64.
    pub fn inv_freq(&self, length: u32) -> Vec<f64> {
        let mut inv_freq =
            scaled_frequencies(&self.config.scaling, self.config.theta, self.frequency_dim(), length);
        if self.config.inv_freq == InvFreq::RoundedToF16 {
            for frequency in &mut inv_freq {
                *frequency = f16::from_f64(*frequency).to_f64();
            }
        }
        if self.config.axes == Axes::TwoBlocks {
            inv_freq.extend_from_within(..);
        }
        inv_freq
    }

    /// What cos and sin are multiplied by: 1 unless the scaling is YaRN or LongRoPE.
    pub fn attention_factor(&self) -> f64 {
        self.config.scaling.attention_factor()
    }

    /// The axis of each pair, `[rotary_dim / 2]`.
    pub fn pair_axis(&self) -> Vec<u32> {
        let pairs = self.pairs() as usize;
        match &self.config.axes {
            Axes::Single => vec![0; pairs],
            Axes::Sections(sections) => sections
                .iter()
                .zip([0_u32, 1, 2].into_iter().cycle())
                .flat_map(|(&length, axis)| std::iter::repeat_n(axis, length as usize))
                .collect(),
            Axes::TwoBlocks => {
                let block = pairs / 2;
                std::iter::repeat_n(0, block).chain(std::iter::repeat_n(1, block)).collect()
            }
        }
    }

    /// Fails when a frequency is not a positive number.
    pub(crate) fn check_frequencies(&self, inv_freq: &[f64]) -> Result<(), RopeError> {
        match inv_freq.iter().position(|frequency| !(frequency.is_finite() && *frequency > 0.0)) {
            None => Ok(()),
            Some(pair) => Err(RopeError::Frequency { pair, found: inv_freq[pair] }),
        }
    }

    /// The width that the exponents are divided by.
    fn frequency_dim(&self) -> u32 {
        match self.config.axes {
            Axes::TwoBlocks => self.config.rotary_dim / 2,
            _ => self.config.rotary_dim,
        }
    }
}
