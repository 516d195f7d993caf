use std::f64::consts::TAU;

use crate::RopeError;

/// How the frequencies are stretched so that a model sees further than it was trained to: `rope_scaling` or
/// `rope_parameters` of a config. Formulas are those of transformers' `modeling_rope_utils`, evaluated in f64.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Scaling {
    /// Not at all.
    #[default]
    None,
    /// Every frequency divided by `factor` (position interpolation).
    Linear {
        /// At least 1.
        factor: f64,
    },
    /// A base that grows with the sequence (dynamic NTK): see [`RopeSpec::inv_freq`](crate::RopeSpec::inv_freq).
    Dynamic {
        /// At least 1.
        factor: f64,
        /// Positions seen in training (`max_position_embeddings`).
        trained_positions: u32,
    },
    /// YaRN (Peng et al.): low frequencies divided by `factor`, high ones kept, a linear ramp between.
    Yarn {
        /// At least 1.
        factor: f64,
        /// Positions seen in training (`original_max_position_embeddings`).
        trained_positions: u32,
        /// Turns within the trained positions from which on a frequency is kept; 32 by default.
        beta_fast: f64,
        /// Turns up to which a frequency is divided by `factor`; 1 by default.
        beta_slow: f64,
        /// Multiplies cos and sin; `None` takes `0.1 ln(factor) + 1`, or the ratio of the mscales.
        attention_factor: Option<f64>,
        /// DeepSeek's `mscale`; counts only together with `mscale_all_dim`.
        mscale: Option<f64>,
        /// DeepSeek's `mscale_all_dim`.
        mscale_all_dim: Option<f64>,
        /// Whether the ends of the ramp are rounded outwards to whole pairs; true by default.
        truncate: bool,
    },
    /// Llama 3: by wavelength, with a smooth middle.
    Llama3 {
        /// At least 1.
        factor: f64,
        /// Wavelengths above `trained_positions / low_freq_factor` are stretched by `factor`.
        low_freq_factor: f64,
        /// Wavelengths below `trained_positions / high_freq_factor` are kept; above `low_freq_factor`.
        high_freq_factor: f64,
        /// Positions seen in training (`original_max_position_embeddings`).
        trained_positions: u32,
    },
    /// LongRoPE: one divisor per frequency, another set once the sequence is longer than in training.
    LongRope {
        /// At least 1; only the attention factor depends on it.
        factor: f64,
        /// Divisors up to `trained_positions`, one per frequency.
        short_factor: Vec<f64>,
        /// Divisors beyond `trained_positions`, one per frequency.
        long_factor: Vec<f64>,
        /// Positions seen in training (`original_max_position_embeddings`), at least 2.
        trained_positions: u32,
        /// Multiplies cos and sin; `None` takes `sqrt(1 + ln(factor) / ln(trained_positions))`.
        attention_factor: Option<f64>,
    },
}

impl Scaling {
    /// The kind as configs write it.
    pub fn kind(&self) -> &'static str {
        match self {
            Scaling::None => "default",
            Scaling::Linear { .. } => "linear",
            Scaling::Dynamic { .. } => "dynamic",
            Scaling::Yarn { .. } => "yarn",
            Scaling::Llama3 { .. } => "llama3",
            Scaling::LongRope { .. } => "longrope",
        }
    }

    pub(crate) fn attention_factor(&self) -> f64 {
        match *self {
            Scaling::Yarn { attention_factor: Some(given), .. }
            | Scaling::LongRope { attention_factor: Some(given), .. } => given,
            Scaling::Yarn { factor, mscale, mscale_all_dim, .. } => match (mscale, mscale_all_dim) {
                (Some(scale), Some(all_dim)) if scale != 0.0 && all_dim != 0.0 => {
                    yarn_mscale(factor, scale) / yarn_mscale(factor, all_dim)
                }
                _ => yarn_mscale(factor, 1.0),
            },
            Scaling::LongRope { factor, trained_positions, .. } => {
                (1.0 + factor.ln() / f64::from(trained_positions).ln()).sqrt()
            }
            Scaling::None | Scaling::Linear { .. } | Scaling::Dynamic { .. } | Scaling::Llama3 { .. } => 1.0,
        }
    }
}

/// Frequencies `[width / 2]` for a sequence of `length` positions.
pub(crate) fn scaled_frequencies(scaling: &Scaling, theta: f64, width: u32, length: u32) -> Vec<f64> {
    let plain = |theta| frequencies(theta, width);
    match scaling {
        Scaling::None => plain(theta).collect(),
        Scaling::Linear { factor } => plain(theta).map(|frequency| frequency / factor).collect(),
        Scaling::Dynamic { factor, trained_positions } => {
            plain(dynamic_theta(theta, width, *factor, *trained_positions, length)).collect()
        }
        Scaling::Yarn { factor, trained_positions, beta_fast, beta_slow, truncate, .. } => {
            let pair_of_turns = |turns: f64| {
                let wavelength = f64::from(*trained_positions) / (turns * TAU);
                f64::from(width) * wavelength.ln() / (2.0 * theta.ln())
            };
            let ramp = Ramp::new(pair_of_turns(*beta_fast), pair_of_turns(*beta_slow), *truncate, width);
            let blend = |(pair, frequency): (u32, f64)| {
                let stretched = ramp.at(pair);
                frequency / factor * stretched + frequency * (1.0 - stretched)
            };
            (0..).zip(plain(theta)).map(blend).collect()
        }
        Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, trained_positions } => {
            let stretch = |frequency: f64| {
                let turns = f64::from(*trained_positions) * frequency / TAU;
                let kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
                (1.0 - kept) * frequency / factor + kept * frequency
            };
            plain(theta).map(stretch).collect()
        }
        Scaling::LongRope { short_factor, long_factor, trained_positions, .. } => {
            let divisors = if length > *trained_positions { long_factor } else { short_factor };
            plain(theta).zip(divisors).map(|(frequency, divisor)| frequency / divisor).collect()
        }
    }
}

/// `theta^(-2i / width)` for `i < width / 2`.
fn frequencies(theta: f64, width: u32) -> impl Iterator<Item = f64> {
    (0..width / 2).map(move |pair| theta.powf(f64::from(2 * pair) / f64::from(width)).recip())
}

/// The base for which the lowest frequency is stretched by about `length / trained_positions`.
fn dynamic_theta(theta: f64, width: u32, factor: f64, trained_positions: u32, length: u32) -> f64 {
    if width == 2 {
        return theta; // The only frequency is theta^0, and the exponent below would divide by zero.
    }
    let stretch = f64::from(length.max(trained_positions)) / f64::from(trained_positions);
    // transformers writes factor * stretch - (factor - 1); this form is exactly 1 when nothing is stretched.
    theta * (1.0 + factor * (stretch - 1.0)).powf(f64::from(width) / f64::from(width - 2))
}

fn yarn_mscale(factor: f64, mscale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 }
}

/// YaRN's ramp over the pairs: 0 below `low`, 1 above `high`.
struct Ramp {
    low: f64,
    high: f64,
}

impl Ramp {
    fn new(low: f64, high: f64, truncate: bool, width: u32) -> Ramp {
        let (low, high) = if truncate { (low.floor(), high.ceil()) } else { (low, high) };
        let (low, high) = (low.max(0.0), high.min(f64::from(width - 1)));
        Ramp { low, high: if low == high { high + 0.001 } else { high } }
    }

    fn at(&self, pair: u32) -> f64 {
        ((f64::from(pair) - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }
}

/// Fails on the first parameter that is outside its range.
pub(crate) fn check_scaling(scaling: &Scaling, theta: f64, width: u32) -> Result<(), RopeError> {
    let require = |ok: bool, parameter, expected, found| {
        if ok { Ok(()) } else { Err(RopeError::Scaling { kind: scaling.kind(), parameter, expected, found }) }
    };
    let factor_is_sound =
        |factor: f64| require(factor.is_finite() && factor >= 1.0, "factor", "finite and at least 1", factor);
    let is_positive = |parameter, value: f64| {
        require(value.is_finite() && value > 0.0, parameter, "finite and above 0", value)
    };
    let trained = |positions: u32, least: u32, expected| {
        let parameter = "original_max_position_embeddings";
        require(positions >= least, parameter, expected, f64::from(positions))
    };
    match scaling {
        Scaling::None => Ok(()),
        Scaling::Linear { factor } => factor_is_sound(*factor),
        Scaling::Dynamic { factor, trained_positions } => {
            factor_is_sound(*factor)?;
            trained(*trained_positions, 1, "at least 1")
        }
        &Scaling::Yarn { factor, trained_positions, beta_fast, beta_slow, .. } => {
            factor_is_sound(factor)?;
            trained(trained_positions, 1, "at least 1")?;
            is_positive("beta_slow", beta_slow)?;
            let above = beta_fast.is_finite() && beta_fast > beta_slow;
            require(above, "beta_fast", "finite and above beta_slow", beta_fast)?;
            require(theta > 1.0, "rope_theta", "above 1", theta)?;
            is_positive("attention_factor", scaling.attention_factor())
        }
        &Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, trained_positions } => {
            factor_is_sound(factor)?;
            trained(trained_positions, 1, "at least 1")?;
            is_positive("low_freq_factor", low_freq_factor)?;
            let above = high_freq_factor.is_finite() && high_freq_factor > low_freq_factor;
            require(above, "high_freq_factor", "finite and above low_freq_factor", high_freq_factor)
        }
        Scaling::LongRope { factor, short_factor, long_factor, trained_positions, .. } => {
            factor_is_sound(*factor)?;
            trained(*trained_positions, 2, "at least 2")?;
            check_factors("short_factor", short_factor, width)?;
            check_factors("long_factor", long_factor, width)?;
            is_positive("attention_factor", scaling.attention_factor())
        }
    }
}

fn check_factors(list: &'static str, factors: &[f64], width: u32) -> Result<(), RopeError> {
    let expected = width as usize / 2;
    if factors.len() != expected {
        return Err(RopeError::FactorCount { list, expected, found: factors.len() });
    }
    match factors.iter().position(|factor| !(factor.is_finite() && *factor > 0.0)) {
        None => Ok(()),
        Some(index) => Err(RopeError::Factor { list, index, found: factors[index] }),
    }
}
