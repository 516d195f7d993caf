//! What a rotation must be, in f64, from the definitions of the papers: Su et al. (RoFormer), Peng et al. (YaRN) in the form
//! of transformers, Meta's Llama 3.1, Ding et al. (LongRoPE), and ggml's parameters. Nothing of the library computes here:
//! frequencies, scaling, pairs, axes and places are stated a second time.

use std::f64::consts::PI;

use device_mem::Float;
use half::f16;
use kernels_rope::{Axes, InvFreq, Pairing, RopeConfig, Scaling};
use parity::{Number, half_ulp};

use crate::cases::{Definition, GgmlMode, Place, Rotary};

/// Unit roundoff of f32.
pub(crate) const U: f64 = 1.0 / 16_777_216.0;
/// Two products in f32 of which each may be subnormal, off by half of the least number.
const UNDERFLOW: f64 = 1.401_298_464_324_817e-45;

/// A rotary embedding for a sequence of one length.
pub(crate) struct Truth {
    /// Radians per position of each pair.
    frequencies: Vec<f64>,
    /// What cos and sin are multiplied by.
    factor: f64,
    /// The axis of each pair.
    axis: Vec<usize>,
    /// The elements of each pair in a head.
    elements: Vec<(usize, usize)>,
}

impl Truth {
    pub(crate) fn new(rotary: &Rotary, length: u32) -> Truth {
        let config = &rotary.config;
        let (frequencies, factor) = match &rotary.definition {
            Definition::Config => from_config(config, length),
            Definition::Ggml { mode, freq_scale, ext_factor, attn_factor, freq_factors } => {
                from_ggml(config, *mode, [*freq_scale, *ext_factor, *attn_factor], freq_factors)
            }
        };
        let axis = match &rotary.definition {
            Definition::Ggml { mode, .. } => ggml_axes(*mode, config.rotary_dim as usize),
            Definition::Config => axes(config),
        };
        let pairs = config.rotary_dim as usize / 2;
        Truth { frequencies, factor, axis, elements: (0..pairs).map(|pair| elements(config, pair)).collect() }
    }

    /// cos and sin `[tokens][pairs]`, times the factor, at positions `[axes][tokens]`.
    pub(crate) fn rows(&self, positions: &[Vec<u32>]) -> Vec<Vec<(f64, f64)>> {
        let row = |token: usize| {
            let of_pair = |(&frequency, &axis): (&f64, &usize)| {
                let (sin, cos) = (f64::from(positions[axis][token]) * frequency).sin_cos();
                (self.factor * cos, self.factor * sin)
            };
            self.frequencies.iter().zip(&self.axis).map(of_pair).collect()
        };
        (0..positions.first().map_or(0, Vec::len)).map(row).collect()
    }

    /// The buffer in which the elements of each pair have changed places.
    pub(crate) fn exchanged<T: Float>(&self, data: &[T], place: &Place) -> Vec<T> {
        let mut exchanged = data.to_vec();
        for (_, row) in place.rows() {
            self.elements.iter().for_each(|(a, b)| exchanged.swap(row + a, row + b));
        }
        exchanged
    }

    /// Holds the rotated rows of `got` to `3u(|x0 c| + |x1 s|)` of the rotation of `before`, with half an ulp of a narrower
    /// type, and everything else to its bits. The angle is negative where `inverse` is set.
    pub(crate) fn check<T: Float + Number>(
        &self,
        before: &[T],
        got: &[T],
        place: &Place,
        rows: &[Vec<(f64, f64)>],
        inverse: bool,
    ) -> Result<Errors, String> {
        let mut errors = Errors::default();
        let mut untouched = got.to_vec();
        for (token, row) in place.rows() {
            for (&(a, b), &(cos, sin)) in self.elements.iter().zip(&rows[token]) {
                let sin = if inverse { -sin } else { sin };
                let (a, b) = (row + a, row + b);
                let (x, y) = (before[a].widen(), before[b].widen());
                for (at, products) in [(a, [x * cos, -(y * sin)]), (b, [y * cos, x * sin])] {
                    errors.element(products, got[at]).map_err(|what| format!("element {at}: {what}"))?;
                    untouched[at] = before[at];
                }
            }
        }
        let bits = |value: &T| value.to_f32().to_bits();
        match before.iter().map(bits).zip(untouched.iter().map(bits)).position(|(before, got)| before != got)
        {
            Some(at) => Err(format!("element {at} is not rotated, but became {:?}", got[at])),
            None => Ok(errors),
        }
    }
}

/// The errors of the elements of one operation or more.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Errors {
    /// The largest error as a share of its bound.
    pub(crate) worst_share: f64,
    error_energy: f64,
    energy: f64,
}

impl Errors {
    pub(crate) fn add(&mut self, other: Errors) {
        self.worst_share = self.worst_share.max(other.worst_share);
        self.error_energy += other.error_energy;
        self.energy += other.energy;
    }

    /// Normalised mean square error.
    pub(crate) fn nmse(&self) -> f64 {
        if self.error_energy == 0.0 { 0.0 } else { self.error_energy / self.energy }
    }

    /// Holds one element, the sum of two exact products, to its bound.
    fn element<T: Float + Number>(&mut self, [p, q]: [f64; 2], got: T) -> Result<(), String> {
        let exact = p + q;
        let f32_bound = 3.0 * U * (p.abs() + q.abs()) + UNDERFLOW;
        let bound = if T::PRECISION == f32::PRECISION {
            f32_bound
        } else {
            // What is rounded to T is off by the f32 bound, and may lie in the next binade.
            f32_bound + half_ulp::<T>(exact.abs() + f32_bound)
        };
        let got = got.widen();
        let error = (exact - got).abs();
        if error <= bound {
            self.worst_share = self.worst_share.max(error / bound);
            self.error_energy += error * error;
            self.energy += exact * exact;
            return Ok(());
        }
        // Where the bound reaches over an edge of the range, the result on either side of it is right.
        let edges = [1.0 - 8.0 * U, 1.0 + 8.0 * U].map(|near| overflowing::<T>([p, q], near));
        if edges.iter().any(|edge| same(*edge, got)) {
            return Ok(());
        }
        Err(format!("expected {exact:e}, got {got:e}, which is off by {error:e} where {bound:e} is allowed"))
    }
}

/// The sum of two products where products and sum overflow at `near` times the end of their range.
fn overflowing<T: Number>(products: [f64; 2], near: f64) -> f64 {
    let [p, q] = products.map(|product| saturated::<f32>(product, near));
    saturated::<T>(saturated::<f32>(p + q, near), near)
}

/// Infinite where rounding to `T` makes it so.
fn saturated<T: Number>(value: f64, near: f64) -> f64 {
    let end = (2.0 - 2.0_f64.powi(-T::PRECISION)) * 2.0_f64.powi(1 - T::MIN_EXPONENT);
    if value.abs() >= end * near { f64::INFINITY.copysign(value) } else { value }
}

/// Both NaN, or the same infinity. Finite results have passed already.
fn same(expected: f64, got: f64) -> bool {
    (expected.is_nan() && got.is_nan()) || (expected.is_infinite() && expected == got)
}

/// The elements of a pair, straight from the definition of the layouts.
fn elements(config: &RopeConfig, pair: usize) -> (usize, usize) {
    let half = config.rotary_dim as usize / 2;
    match (config.pairing, &config.axes) {
        (Pairing::Interleaved, _) => (2 * pair, 2 * pair + 1),
        // Each half of the rotated part is a block of halves.
        (Pairing::Halves, Axes::TwoBlocks) if pair < half / 2 => (pair, pair + half / 2),
        (Pairing::Halves, Axes::TwoBlocks) => (half / 2 + pair, half + pair),
        (Pairing::Halves, _) => (pair, pair + half),
    }
}

fn axes(config: &RopeConfig) -> Vec<usize> {
    let pairs = config.rotary_dim as usize / 2;
    match &config.axes {
        Axes::TwoBlocks => (0..pairs).map(|pair| usize::from(pair >= pairs / 2)).collect(),
        Axes::Sections(sections) => {
            let end_of = |section: usize| sections[..=section].iter().map(|&len| len as usize).sum::<usize>();
            let section =
                |pair: usize| (0..sections.len()).find(|&section| pair < end_of(section)).unwrap_or(0);
            (0..pairs).map(|pair| section(pair) % 3).collect()
        }
        _ => vec![0; pairs],
    }
}

/// The axis of each of ggml's pairs, by ggml's sections of `n_dims / 3` or `n_dims / 4` pairs.
fn ggml_axes(mode: GgmlMode, n_dims: usize) -> Vec<usize> {
    let axis = |pair: usize| match mode {
        GgmlMode::Normal | GgmlMode::Neox => 0,
        GgmlMode::Mrope => pair / (n_dims / 3),
        GgmlMode::Imrope => pair % 3,
        GgmlMode::Vision => pair / (n_dims / 4),
    };
    (0..n_dims / 2).map(axis).collect()
}

/// `1 / base^(2i / width)`.
fn frequency(base: f64, width: f64, pair: u32) -> f64 {
    (-2.0 * f64::from(pair) / width * base.ln()).exp()
}

fn from_ggml(
    config: &RopeConfig,
    mode: GgmlMode,
    [freq_scale, ext_factor, attn_factor]: [f64; 3],
    freq_factors: &[f64],
) -> (Vec<f64>, f64) {
    let n_dims = config.rotary_dim;
    let of_pair = |(pair, factor): (u32, &f64)| {
        let extrapolated = match mode {
            GgmlMode::Vision => frequency(config.theta, f64::from(n_dims / 2), pair % (n_dims / 4)),
            _ => frequency(config.theta, f64::from(n_dims), pair),
        } / factor;
        let interpolated = freq_scale * extrapolated;
        let ramp = if pair == 0 { ext_factor } else { 0.0 };
        interpolated * (1.0 - ramp) + extrapolated * ramp
    };
    let frequencies = (0..).zip(freq_factors).map(of_pair).collect();
    let stretch = if ext_factor == 0.0 { 1.0 } else { 1.0 + 0.1 * (1.0 / freq_scale).ln() };
    (frequencies, attn_factor * stretch)
}

fn from_config(config: &RopeConfig, length: u32) -> (Vec<f64>, f64) {
    let RopeConfig { rotary_dim, theta: base, .. } = *config;
    let blocks = if config.axes == Axes::TwoBlocks { 2 } else { 1 };
    let pairs = rotary_dim / 2 / blocks;
    let width = f64::from(rotary_dim / blocks);
    let plain = |pair: u32| frequency(base, width, pair);
    let (scaled, factor): (Vec<f64>, f64) = match &config.scaling {
        Scaling::Linear { factor } => ((0..pairs).map(|pair| plain(pair) / factor).collect(), 1.0),
        Scaling::Dynamic { factor, trained_positions } => {
            let sequence = f64::from(length.max(*trained_positions));
            let stretch = factor * sequence / f64::from(*trained_positions) - (factor - 1.0);
            let base = if width == 2.0 { base } else { base * stretch.powf(width / (width - 2.0)) };
            ((0..pairs).map(|pair| frequency(base, width, pair)).collect(), 1.0)
        }
        &Scaling::Yarn { factor, trained_positions, beta_fast, beta_slow, truncate, .. } => {
            let pair_with_turns = |turns: f64| {
                width * (f64::from(trained_positions) / (turns * 2.0 * PI)).ln() / (2.0 * base.ln())
            };
            let (mut low, mut high) = (pair_with_turns(beta_fast), pair_with_turns(beta_slow));
            if truncate {
                (low, high) = (low.floor(), high.ceil());
            }
            (low, high) = (low.max(0.0), high.min(width - 1.0));
            if low == high {
                high += 0.001;
            }
            let mixed = |pair: u32| {
                let kept = 1.0 - ((f64::from(pair) - low) / (high - low)).clamp(0.0, 1.0);
                plain(pair) / factor * (1.0 - kept) + plain(pair) * kept
            };
            ((0..pairs).map(mixed).collect(), yarn_factor(&config.scaling))
        }
        &Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, trained_positions } => {
            let trained = f64::from(trained_positions);
            let stretched = |pair: u32| {
                let wavelength = 2.0 * PI / plain(pair);
                if wavelength < trained / high_freq_factor {
                    plain(pair)
                } else if wavelength > trained / low_freq_factor {
                    plain(pair) / factor
                } else {
                    let smooth =
                        (trained / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    (1.0 - smooth) * plain(pair) / factor + smooth * plain(pair)
                }
            };
            ((0..pairs).map(stretched).collect(), 1.0)
        }
        Scaling::LongRope { factor, short_factor, long_factor, trained_positions, attention_factor } => {
            let divisors = if length > *trained_positions { long_factor } else { short_factor };
            let scaled = (0..).zip(divisors).map(|(pair, divisor)| plain(pair) / divisor).collect();
            let implied = (1.0 + factor.ln() / f64::from(*trained_positions).ln()).sqrt();
            (scaled, attention_factor.unwrap_or(implied))
        }
        _ => ((0..pairs).map(plain).collect(), 1.0),
    };
    let rounded = |frequency: f64| match config.inv_freq {
        InvFreq::Exact => frequency,
        InvFreq::RoundedToF16 => f16::from_f64(frequency).to_f64(),
    };
    let scaled = scaled.into_iter().map(rounded).collect::<Vec<_>>();
    (scaled.repeat(blocks as usize), factor)
}

/// `0.1 mscale ln(factor) + 1`, or the ratio of two of them, or what the config gives.
fn yarn_factor(scaling: &Scaling) -> f64 {
    let Scaling::Yarn { factor, attention_factor, mscale, mscale_all_dim, .. } = *scaling else { return 1.0 };
    let of = |mscale: f64| if factor > 1.0 { 1.0 + 0.1 * mscale * factor.ln() } else { 1.0 };
    match (attention_factor, mscale, mscale_all_dim) {
        (Some(given), ..) => given,
        (None, Some(mscale), Some(all_dim)) => of(mscale) / of(all_dim),
        _ => of(1.0),
    }
}
