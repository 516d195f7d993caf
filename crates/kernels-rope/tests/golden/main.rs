//! Every number of the rope goldens: transformers' formulas evaluated independently in f64. [`mistakes`] shows that the
//! comparison notices what it is for.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

#[path = "../common/mod.rs"]
mod common;
mod mistakes;

use common::{exact_rotation, glm4, head_major, rotated, spec};
use device_mem::Device;
use kernels_rope::{Axes, InvFreq, Pairing, Positions, RopeConfig, RopeTable, Scaling};
use parity::{Golden, Mismatch, Tolerance, compare, golden_dir, half_ulp};
use serde_json::Value;

const TOKENS: usize = 8;
const PAIRS: usize = 32;
const HEADS: usize = 2;
const HEAD_DIM: usize = 128;

/// Relative distance of two ways to evaluate one frequency in f64: a few roundings each.
const FREQUENCY_ERROR: f64 = 1e-15;

fn golden() -> Golden {
    Golden::open("rope/hd128_p05.safetensors").unwrap()
}

fn parameters() -> Value {
    let text = std::fs::read_to_string(golden_dir().join("rope/hd128_p05.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn positions(golden: &Golden, tensor: &str) -> Vec<u32> {
    golden.i64(tensor).unwrap().into_iter().map(|position| position.try_into().unwrap()).collect()
}

/// The config of one golden kind, read from its parameters.
fn config(kind: &str, pairing: Pairing) -> RopeConfig {
    let parameters = parameters();
    let rope = &parameters["kinds"][kind]["rope_parameters"];
    let number = |key: &str| rope[key].as_f64().unwrap();
    let list =
        |key: &str| rope[key].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
    let count = |value: &Value| u32::try_from(value.as_u64().unwrap()).unwrap();
    let scaling = match rope["rope_type"].as_str().unwrap() {
        "default" => Scaling::None,
        "linear" => Scaling::Linear { factor: number("factor") },
        "dynamic" => Scaling::Dynamic {
            factor: number("factor"),
            trained_positions: count(&parameters["max_position_embeddings"]),
        },
        "yarn" => Scaling::Yarn {
            factor: number("factor"),
            trained_positions: count(&rope["original_max_position_embeddings"]),
            beta_fast: 32.0,
            beta_slow: 1.0,
            attention_factor: None,
            mscale: None,
            mscale_all_dim: None,
            truncate: true,
        },
        "llama3" => Scaling::Llama3 {
            factor: number("factor"),
            low_freq_factor: number("low_freq_factor"),
            high_freq_factor: number("high_freq_factor"),
            trained_positions: count(&rope["original_max_position_embeddings"]),
        },
        "longrope" => Scaling::LongRope {
            factor: number("factor"),
            short_factor: list("short_factor"),
            long_factor: list("long_factor"),
            trained_positions: count(&rope["original_max_position_embeddings"]),
            attention_factor: None,
        },
        other => panic!("unknown kind {other}"),
    };
    RopeConfig { theta: number("rope_theta"), scaling, pairing, ..glm4() }
}

/// What one token is compared with.
struct Token {
    position: u32,
    cos: Vec<f64>,
    sin: Vec<f64>,
}

fn tokens(golden: &Golden, kind: &str) -> Vec<Token> {
    let (cos, sin) =
        (golden.f64(&format!("{kind}.cos_f64")).unwrap(), golden.f64(&format!("{kind}.sin_f64")).unwrap());
    let rows = cos.chunks_exact(PAIRS).zip(sin.chunks_exact(PAIRS));
    let tokens = positions(golden, "positions").into_iter().zip(rows);
    tokens.map(|(position, (cos, sin))| Token { position, cos: cos.to_vec(), sin: sin.to_vec() }).collect()
}

/// A table and the golden rotations for its config.
struct Case {
    config: RopeConfig,
    table: RopeTable,
    q: Vec<f32>,
    rotated_q: Vec<f64>,
}

impl Case {
    fn new(golden: &Golden, kind: &str, pairing: Pairing, length: u32) -> Case {
        let config = config(kind, pairing);
        let table = common::table(config.clone(), length, &Device::Cpu);
        let expected = parameters()["kinds"][kind]["attention_factor"].as_f64().unwrap();
        compare(&[expected], &[table.spec().attention_factor()], Tolerance::Ulps(1)).unwrap();
        let pairing = match pairing {
            Pairing::Interleaved => "interleaved",
            Pairing::Halves => "half",
        };
        Case {
            q: golden.f32("q").unwrap(),
            rotated_q: golden.f64(&format!("{kind}.q_{pairing}_f64")).unwrap(),
            config,
            table,
        }
    }

    /// Compares the rows of positions with the golden ones: half an ulp of f32, and what the angle's own error in f64
    /// moves them by. Rows do not depend on the pairing, so one pairing's are compared.
    fn check_rows(&self, tokens: &[Token]) {
        if self.config.pairing != Pairing::Interleaved {
            return;
        }
        let inv_freq = self.table.spec().inv_freq(self.table.length());
        let (cos, sin) = (self.table.cos_to_host().unwrap(), self.table.sin_to_host().unwrap());
        for token in tokens {
            let row = token.position as usize * PAIRS..(token.position as usize + 1) * PAIRS;
            for (expected, got) in [(&token.cos, &cos[row.clone()]), (&token.sin, &sin[row])] {
                let bounds = Vec::from_iter(expected.iter().zip(&inv_freq).map(|(value, frequency)| {
                    let angle_error = FREQUENCY_ERROR * f64::from(token.position) * frequency + f64::EPSILON;
                    half_ulp::<f32>(*value) + angle_error * self.table.spec().attention_factor()
                }));
                compare(expected, got, Tolerance::Elementwise(&bounds))
                    .unwrap_or_else(|mismatch| panic!("position {}: {mismatch}", token.position));
            }
        }
    }

    /// Rotates the golden q of one token and compares each element with the golden result.
    fn check_rotation(&self, index: usize, token: &Token) {
        let at = Positions::new(&self.table, &[token.position]).unwrap();
        let cos_sin = Vec::from_iter(token.cos.iter().copied().zip(token.sin.iter().copied()));
        for head in 0..HEADS {
            let row = (head * TOKENS + index) * HEAD_DIM..(head * TOKENS + index + 1) * HEAD_DIM;
            let head = &self.q[row.clone()];
            let (got, _) = rotated(&self.table, &at, head, head_major(1, 1, 128));
            let head = Vec::from_iter(head.iter().map(|&x| x.into()));
            let bounds = exact_rotation(&self.config, &head, &cos_sin).1;
            compare(&self.rotated_q[row], &got, Tolerance::Elementwise(&bounds))
                .unwrap_or_else(|mismatch| panic!("position {}: {mismatch}", token.position));
        }
    }
}

/// Kinds whose frequencies do not depend on the sequence: one table serves all positions.
fn check_fixed(kind: &str) {
    let golden = golden();
    for pairing in common::PAIRINGS {
        let case = Case::new(&golden, kind, pairing, 1 << 20);
        let spec = case.table.spec();
        check_frequencies(&golden.f64(&format!("{kind}.inv_freq_f64")).unwrap(), &spec.inv_freq(1));
        let tokens = tokens(&golden, kind);
        case.check_rows(&tokens);
        for (index, token) in tokens.iter().enumerate() {
            case.check_rotation(index, token);
        }
    }
}

/// Kinds that are scaled for a sequence of `position + 1`: one table per position.
fn check_by_length(kind: &str) {
    let golden = golden();
    let frequencies = golden.f64(&format!("{kind}.inv_freq_f64")).unwrap();
    let tokens = tokens(&golden, kind);
    for ((index, token), frequencies) in tokens.iter().enumerate().zip(frequencies.chunks_exact(PAIRS)) {
        let length = token.position + 1;
        for pairing in common::PAIRINGS {
            let case = Case::new(&golden, kind, pairing, length);
            check_frequencies(frequencies, &case.table.spec().inv_freq(length));
            case.check_rows(std::slice::from_ref(token));
            case.check_rotation(index, token);
        }
    }
}

fn check_frequencies(expected: &[f64], got: &[f64]) {
    let bounds = Vec::from_iter(expected.iter().map(|frequency| FREQUENCY_ERROR * frequency));
    compare(expected, got, Tolerance::Elementwise(&bounds)).unwrap();
}

#[test]
fn rope_05_default_matches_the_golden() {
    check_fixed("default");
}

#[test]
fn rope_05_rope_ratio_matches_the_golden() {
    assert_eq!(kernels_rope::theta_from_ratio(500.0), config("rope_ratio500", Pairing::Halves).theta);
    check_fixed("rope_ratio500");
}

#[test]
fn rope_05_linear_matches_the_golden() {
    check_fixed("linear");
}

#[test]
fn rope_05_yarn_matches_the_golden() {
    check_fixed("yarn");
}

#[test]
fn rope_05_llama3_matches_the_golden() {
    check_fixed("llama3");
}

#[test]
fn rope_05_dynamic_matches_the_golden() {
    check_by_length("dynamic");
}

#[test]
fn rope_05_longrope_matches_the_golden() {
    check_by_length("longrope");
}

/// GLM's sections of the three axes.
const SECTIONS: [u32; 3] = [8, 12, 12];

/// Rotates the golden q by sections of the axes, taken in this order, and compares each element with the golden result.
fn compare_mrope(pairing: Pairing, sections: [u32; 3], order: [usize; 3]) -> Result<(), Mismatch> {
    let golden = golden();
    let positions = positions(&golden, "mrope.positions");
    let axes = Vec::from_iter(positions.chunks_exact(TOKENS));
    let (cos, sin) = (golden.f64("mrope.cos_f64").unwrap(), golden.f64("mrope.sin_f64").unwrap());
    let cos_sin = Vec::from_iter(cos.into_iter().zip(sin));
    let q = golden.f32("q").unwrap();
    let length = positions.iter().max().unwrap() + 1;
    let tensor = if pairing == Pairing::Halves { "mrope.q_half_f64" } else { "mrope.q_interleaved_f64" };
    let config = RopeConfig { pairing, axes: Axes::Sections(sections.to_vec()), ..glm4() };
    let table = common::table(config.clone(), length, &Device::Cpu);
    let at = Positions::with_axes(&table, &order.map(|axis| axes[axis])).unwrap();
    let (got, _) = rotated(&table, &at, &q, head_major(8, 2, 128));
    let bounds = Vec::from_iter(q.chunks_exact(HEAD_DIM).enumerate().flat_map(|(row, head)| {
        let token = row % TOKENS;
        let head = Vec::from_iter(head.iter().map(|&x| x.into()));
        exact_rotation(&config, &head, &cos_sin[token * PAIRS..(token + 1) * PAIRS]).1
    }));
    compare(&golden.f64(tensor).unwrap(), &got, Tolerance::Elementwise(&bounds)).map(|_| ())
}

#[test]
fn rope_05_mrope_matches_the_golden() {
    for pairing in common::PAIRINGS {
        compare_mrope(pairing, SECTIONS, [0, 1, 2]).unwrap();
    }
}

#[test]
fn rope_05_chatglm_two_blocks_match_the_golden() {
    let golden = golden();
    let position = positions(&golden, "chatglm2d.position_ids");
    let block = positions(&golden, "chatglm2d.block_position_ids");
    let length = position.iter().chain(&block).max().unwrap() + 1;
    let q = golden.f32("q").unwrap();
    for (inv_freq, tensor) in
        [(InvFreq::Exact, "chatglm2d.exact.q_f64"), (InvFreq::RoundedToF16, "chatglm2d.inv_f16.q_f64")]
    {
        let (pairing, axes) = (Pairing::Halves, Axes::TwoBlocks);
        let config = RopeConfig { rotary_dim: 128, pairing, axes, inv_freq, ..glm4() };
        let frequencies = spec(config.clone()).inv_freq(length);
        let table = common::table(config.clone(), length, &Device::Cpu);
        let at = Positions::with_axes(&table, &[&position, &block]).unwrap();
        let (got, _) = rotated(&table, &at, &q, head_major(8, 2, 128));
        let bounds = Vec::from_iter(q.chunks_exact(HEAD_DIM).enumerate().flat_map(|(row, head)| {
            let token = row % TOKENS;
            let cos_sin = Vec::from_iter(frequencies.iter().enumerate().map(|(pair, frequency)| {
                let at = if pair < PAIRS { position[token] } else { block[token] };
                let (sin, cos) = (f64::from(at) * frequency).sin_cos();
                (cos, sin)
            }));
            exact_rotation(&config, &Vec::from_iter(head.iter().map(|&x| x.into())), &cos_sin).1
        }));
        compare(&golden.f64(tensor).unwrap(), &got, Tolerance::Elementwise(&bounds)).unwrap();
    }
}

#[test]
fn the_golden_file_has_no_kind_that_is_not_checked() {
    let mut kinds = Vec::from_iter(parameters()["kinds"].as_object().unwrap().keys().cloned());
    kinds.sort_unstable();
    let checked = ["default", "dynamic", "linear", "llama3", "longrope", "rope_ratio500", "yarn"];
    assert_eq!(kinds, checked);
}
