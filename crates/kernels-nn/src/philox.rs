/// Rounds, as in the published generator.
const ROUNDS: u32 = 10;
const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
/// Added to the key each round: the golden ratio and the square root of 3, less 1.
const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];

/// Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC'11): 128 random
/// bits that are a function of counter and key alone, so the numbers do not depend on who draws them and when.
pub(crate) fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..ROUNDS {
        if round > 0 {
            key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        }
        let (high0, low0) = wide_product(MULTIPLIERS[0], counter[0]);
        let (high1, low1) = wide_product(MULTIPLIERS[1], counter[2]);
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0];
    }
    counter
}

/// 64 random bits: the number of draw `step` under `seed`.
pub(crate) fn random_bits(seed: u64, step: u64) -> u64 {
    let ([step_low, step_high], key) = (halves(step), halves(seed));
    let [low, high, ..] = philox4x32([step_low, step_high, 0, 0], key);
    (u64::from(high) << 32) | u64::from(low)
}

/// The high and the low word of a product.
fn wide_product(a: u32, b: u32) -> (u32, u32) {
    let [low, high] = halves(u64::from(a) * u64::from(b));
    (high, low)
}

/// The low and the high word.
#[expect(clippy::cast_possible_truncation, reason = "the words are what is asked for")]
fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers_of_random123() {
        // kat_vectors of the Random123 distribution: philox4x32 with 10 rounds.
        let answers = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in answers {
            assert_eq!(philox4x32(counter, key), expected, "{counter:08x?} {key:08x?}");
        }
    }

    #[test]
    fn draws_differ_by_every_bit_of_step_and_seed() {
        let first = random_bits(7, 3);
        assert_eq!(first, random_bits(7, 3));
        for bit in 0..64 {
            assert_ne!(first, random_bits(7 ^ (1 << bit), 3), "{bit}");
            assert_ne!(first, random_bits(7, 3 ^ (1 << bit)), "{bit}");
        }
    }
}
