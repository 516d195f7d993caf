use device_mem::Float;

/// SplitMix64 (Steele, Lea and Flood): the same numbers on every platform, from any seed.
#[derive(Clone, Debug)]
pub struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// A generator that starts at `seed`.
    pub fn new(seed: u64) -> SplitMix64 {
        SplitMix64 { state: seed }
    }

    /// The next 64 uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform in `[-1, 1)`, a multiple of `2^-23`.
    #[expect(clippy::cast_precision_loss, reason = "24 bits fit an f32 exactly")]
    pub fn uniform(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 * 2.0_f32.powi(-23) - 1.0
    }

    /// Uniform in `0..bound` for a small `bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        let scaled = (self.next_u64() >> 32) * u64::from(bound);
        u32::try_from(scaled >> 32).unwrap_or(0)
    }
}

/// `len` values, uniform in `[-1, 1)`.
pub fn uniform<T: Float>(seed: u64, len: usize) -> Vec<T> {
    let mut random = SplitMix64::new(seed);
    (0..len).map(|_| T::from_f32(random.uniform())).collect()
}

/// Values that arithmetic treats specially: signed zeros, the smallest subnormal and normal numbers and the largest
/// finite numbers of f16, bf16 and f32, infinities and NaN.
pub const SPECIAL: [f32; 16] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    f32::MIN_POSITIVE,
    -1.0e-45,
    1.0e-40,
    5.960_464_5e-8,
    -6.103_515_6e-5,
    65504.0,
    -65504.0,
    f32::MAX,
    -3.389_531_4e38,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
];

/// `len` values, uniform in `[-1, 1)`, with about one in eight from [`SPECIAL`].
pub fn uniform_with_special<T: Float>(seed: u64, len: usize) -> Vec<T> {
    let mut random = SplitMix64::new(seed);
    let mut value = || match random.below(8) {
        0 => SPECIAL[random.below(16) as usize],
        _ => random.uniform(),
    };
    (0..len).map(|_| T::from_f32(value())).collect()
}

/// `len` positions below `bound`.
pub fn positions(seed: u64, len: usize, bound: u32) -> Vec<u32> {
    let mut random = SplitMix64::new(seed);
    (0..len).map(|_| random.below(bound)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_splitmix64() {
        // The published sequence for the seed 1234567.
        let mut random = SplitMix64::new(1_234_567);
        let published = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([(); 3].map(|()| random.next_u64()), published);
    }

    #[test]
    fn values_stay_in_range_and_special_ones_occur() {
        let values = uniform::<f32>(1, 10_000);
        assert!(values.iter().all(|value| (-1.0..1.0).contains(value)));
        let special = uniform_with_special::<f32>(2, 10_000);
        assert!(special.iter().any(|value| value.is_nan()) && special.contains(&f32::MAX));
        assert!(positions(3, 1000, 7).iter().all(|&position| position < 7));
    }
}
