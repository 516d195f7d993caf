//! Deliberate mistakes in configs and positions, each of which the comparison with the goldens must notice.

use device_mem::Device;
use kernels_rope::{Layout, Pairing, Positions, RopeConfig, Scaling};
use parity::{Mismatch, Tolerance, compare};

use crate::common::{PAIRINGS, exact_rotation, pair_elements, rotated, table};
use crate::{HEAD_DIM, HEADS, SECTIONS, TOKENS, Token, compare_mrope, config, golden, tokens};

/// Kinds whose frequencies depend on the length of the sequence.
const BY_LENGTH: [&str; 2] = ["dynamic", "longrope"];
const ALL: [&str; 7] = ["default", "rope_ratio500", "linear", "yarn", "llama3", "dynamic", "longrope"];
/// LongRoPE's lists have as many entries as there are pairs, so that another width is refused.
const ANY_WIDTH: [&str; 6] = ["default", "rope_ratio500", "linear", "yarn", "llama3", "dynamic"];
/// The highest position whose table is built for every mistake, where one table serves all, and where each has its own.
const NEAR: u32 = 4095;
const FAR: u32 = 131_071;

/// What is rotated by, perhaps mistaken.
struct Attempt {
    config: RopeConfig,
    /// Of a token of this position and this place in the sequence.
    position: fn(u32, u32) -> u32,
    /// By the negative angle.
    negative: bool,
}

struct Mistake {
    name: &'static str,
    kinds: &'static [&'static str],
    make: fn(&mut Attempt),
}

/// Changes one field of a scaling.
macro_rules! scaling {
    ($kind:ident, $field:ident, $change:expr) => {
        |attempt| {
            let Scaling::$kind { $field, .. } = &mut attempt.config.scaling else { panic!("another kind") };
            $change($field)
        }
    };
}

const MISTAKES: &[Mistake] = &[
    Mistake {
        name: "the other pairing",
        kinds: &ALL,
        make: |attempt| {
            attempt.config.pairing = match attempt.config.pairing {
                Pairing::Interleaved => Pairing::Halves,
                Pairing::Halves => Pairing::Interleaved,
            }
        },
    },
    Mistake { name: "the whole head", kinds: &ANY_WIDTH, make: |attempt| attempt.config.rotary_dim = 128 },
    Mistake { name: "one pair less", kinds: &ANY_WIDTH, make: |attempt| attempt.config.rotary_dim = 62 },
    Mistake { name: "half the width", kinds: &ANY_WIDTH, make: |attempt| attempt.config.rotary_dim = 32 },
    Mistake { name: "a base off by 1e-6", kinds: &ALL, make: |attempt| attempt.config.theta *= 1.000_001 },
    Mistake {
        name: "the ratio not applied",
        kinds: &["rope_ratio500"],
        make: |attempt| attempt.config.theta = 1e4,
    },
    Mistake {
        name: "a ratio where none is",
        kinds: &["default", "yarn"],
        make: |attempt| attempt.config.theta = 5e6,
    },
    Mistake { name: "the wrong sign", kinds: &ALL, make: |attempt| attempt.negative = true },
    Mistake { name: "positions from one", kinds: &ALL, make: |attempt| attempt.position = |at, _| at + 1 },
    Mistake {
        name: "the previous position",
        kinds: &ALL,
        make: |attempt| attempt.position = |at, _| at.saturating_sub(1),
    },
    Mistake {
        name: "the place for the position",
        kinds: &ALL,
        make: |attempt| attempt.position = |_, place| place,
    },
    Mistake { name: "no rotation", kinds: &ALL, make: |attempt| attempt.position = |_, _| 0 },
    Mistake {
        name: "no scaling",
        kinds: &["linear", "yarn", "llama3", "dynamic", "longrope"],
        make: |attempt| attempt.config.scaling = Scaling::None,
    },
    Mistake {
        name: "linear for another scaling",
        kinds: &["default", "yarn", "llama3", "dynamic", "longrope"],
        make: |attempt| attempt.config.scaling = Scaling::Linear { factor: 4.0 },
    },
    Mistake {
        name: "linear/factor",
        kinds: &["linear"],
        make: scaling!(Linear, factor, |value: &mut f64| *value = 4.000_01),
    },
    Mistake {
        name: "dynamic/factor",
        kinds: &["dynamic"],
        make: scaling!(Dynamic, factor, |value: &mut f64| *value = 4.001),
    },
    Mistake {
        name: "dynamic/trained",
        kinds: &["dynamic"],
        make: scaling!(Dynamic, trained_positions, |value: &mut u32| *value += 1),
    },
    Mistake {
        name: "yarn/factor",
        kinds: &["yarn"],
        make: scaling!(Yarn, factor, |value: &mut f64| *value = 4.001),
    },
    Mistake {
        name: "yarn/beta_fast",
        kinds: &["yarn"],
        make: scaling!(Yarn, beta_fast, |value: &mut f64| *value = 48.0),
    },
    Mistake {
        name: "yarn/beta_slow",
        kinds: &["yarn"],
        make: scaling!(Yarn, beta_slow, |value: &mut f64| *value = 2.0),
    },
    Mistake {
        name: "yarn/trained",
        kinds: &["yarn"],
        make: scaling!(Yarn, trained_positions, |value: &mut u32| *value = 4096),
    },
    Mistake {
        name: "yarn/truncate",
        kinds: &["yarn"],
        make: scaling!(Yarn, truncate, |value: &mut bool| *value = false),
    },
    Mistake {
        name: "yarn/attention",
        kinds: &["yarn"],
        make: scaling!(Yarn, attention_factor, |value: &mut Option<f64>| *value = Some(1.0)),
    },
    Mistake {
        name: "llama3/factor",
        kinds: &["llama3"],
        make: scaling!(Llama3, factor, |value: &mut f64| *value = 8.01),
    },
    Mistake {
        name: "llama3/low",
        kinds: &["llama3"],
        make: scaling!(Llama3, low_freq_factor, |value: &mut f64| *value = 1.01),
    },
    Mistake {
        name: "llama3/high",
        kinds: &["llama3"],
        make: scaling!(Llama3, high_freq_factor, |value: &mut f64| *value = 4.01),
    },
    Mistake {
        name: "llama3/trained",
        kinds: &["llama3"],
        make: scaling!(Llama3, trained_positions, |value: &mut u32| *value = 8191),
    },
    Mistake {
        name: "longrope/attention",
        kinds: &["longrope"],
        make: scaling!(LongRope, factor, |value: &mut f64| *value = 8.001),
    },
    Mistake {
        name: "longrope/trained",
        kinds: &["longrope"],
        make: scaling!(LongRope, trained_positions, |value: &mut u32| *value = 1 << 20),
    },
    Mistake {
        name: "longrope/lists exchanged",
        kinds: &["longrope"],
        make: |attempt| {
            let Scaling::LongRope { short_factor, long_factor, .. } = &mut attempt.config.scaling else {
                panic!("another kind")
            };
            std::mem::swap(short_factor, long_factor);
        },
    },
];

/// The golden rotations of one kind and pairing.
struct Expected {
    kind: &'static str,
    right: RopeConfig,
    q: Vec<f32>,
    rotated_q: Vec<f64>,
    tokens: Vec<Token>,
}

impl Expected {
    fn new(kind: &'static str, pairing: Pairing) -> Expected {
        let golden = golden();
        let name = if pairing == Pairing::Interleaved { "interleaved" } else { "half" };
        let most = if BY_LENGTH.contains(&kind) { FAR } else { NEAR };
        let mut tokens = tokens(&golden, kind);
        tokens.retain(|token| token.position <= most);
        Expected {
            kind,
            right: config(kind, pairing),
            q: golden.f32("q").unwrap(),
            rotated_q: golden.f64(&format!("{kind}.q_{name}_f64")).unwrap(),
            tokens,
        }
    }

    fn attempt(&self) -> Attempt {
        Attempt { config: self.right.clone(), position: |at, _| at, negative: false }
    }

    /// Rotates as attempted, and compares every element with the golden by the bound of what is right.
    fn compare(&self, attempt: &Attempt) -> Result<(), Mismatch> {
        let build = |length| table(attempt.config.clone(), length, &Device::Cpu);
        let shared = (!BY_LENGTH.contains(&self.kind)).then(|| build(NEAR + 2));
        for (place, token) in (0..).zip(&self.tokens) {
            let position = (attempt.position)(token.position, place);
            let own = shared.is_none().then(|| build(token.position.max(position) + 1));
            let table = own.as_ref().or(shared.as_ref()).unwrap();
            let at = Positions::new(table, &[position]).unwrap();
            let cos_sin = Vec::from_iter(token.cos.iter().copied().zip(token.sin.iter().copied()));
            for head in 0..HEADS {
                let start = (head * TOKENS + place as usize) * HEAD_DIM;
                let mut x = self.q[start..start + HEAD_DIM].to_vec();
                let exact = Vec::from_iter(x.iter().map(|&x| x.into()));
                let bounds = exact_rotation(&self.right, &exact, &cos_sin).1;
                self.exchange(&mut x, attempt.negative);
                let (mut got, _) = rotated(table, &at, &x, Layout::contiguous(1, 1, 128));
                self.exchange(&mut got, attempt.negative);
                let expected = &self.rotated_q[start..start + HEAD_DIM];
                compare(expected, &got, Tolerance::Elementwise(&bounds))?;
            }
        }
        Ok(())
    }

    /// Exchanges the elements of each pair, which turns the rotation round.
    fn exchange(&self, head: &mut [f32], negative: bool) {
        for pair in (0..self.right.rotary_dim as usize / 2).filter(|_| negative) {
            let (a, b) = pair_elements(&self.right, pair);
            head.swap(a, b);
        }
    }
}

#[test]
fn every_mistake_is_noticed() {
    for (kind, pairing) in ALL.into_iter().flat_map(|kind| PAIRINGS.map(|pairing| (kind, pairing))) {
        let expected = Expected::new(kind, pairing);
        expected.compare(&expected.attempt()).unwrap();
        for mistake in MISTAKES.iter().filter(|mistake| mistake.kinds.contains(&kind)) {
            let mut attempt = expected.attempt();
            (mistake.make)(&mut attempt);
            let noticed = expected.compare(&attempt).is_err();
            assert!(noticed, "{kind}, {pairing:?}: {} is not noticed", mistake.name);
        }
    }
}

#[test]
fn every_mistake_in_sections_and_axes_is_noticed() {
    for pairing in PAIRINGS {
        for (sections, order) in [
            ([12, 8, 12], [0, 1, 2]),
            ([12, 12, 8], [0, 1, 2]),
            ([9, 11, 12], [0, 1, 2]),
            ([32, 0, 0], [0, 1, 2]),
            (SECTIONS, [0, 2, 1]),
            (SECTIONS, [1, 0, 2]),
            (SECTIONS, [2, 1, 0]),
            (SECTIONS, [0, 0, 0]),
        ] {
            let noticed = compare_mrope(pairing, sections, order).is_err();
            assert!(noticed, "{pairing:?}: sections {sections:?} of the axes {order:?} are not noticed");
        }
    }
}
