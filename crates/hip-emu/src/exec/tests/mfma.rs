//! Matrix operations of CDNA against a product in binary64, in the layouts of AMD's matrix instruction calculator.

use std::collections::HashMap;

use crate::{
    Arch,
    exec::{
        tests::{
            Random,
            cdna::{ACCUMULATION, ALL, Wave64, fill, float, floats, run, wave},
            encodings,
        },
        wave::EXEC,
    },
};

/// A shape of a matrix operation: `[side, depth]` times `[depth, side]` in so many blocks.
#[derive(Clone, Copy, Debug)]
struct Shape {
    side: usize,
    depth: usize,
    blocks: usize,
}

impl Shape {
    /// From a name such as `v_mfma_f32_16x16x4f16`, by how many elements the wave holds where it does not say the blocks.
    fn of(text: &str) -> Self {
        let name = text.split(' ').next().unwrap();
        let shape =
            name.split('_').find(|part| part.contains('x') && part.starts_with(char::is_numeric)).unwrap();
        let mut parts = shape.split('x');
        let side: usize = parts.next().unwrap().parse().unwrap();
        let depth: String = parts.nth(1).unwrap().chars().take_while(char::is_ascii_digit).collect();
        // Of a result, rows and columns of all blocks are as many as its registers times the lanes.
        let registers = text.split(" v[").nth(1).map_or(1, |span| {
            let (first, rest) = span.split_once(':').unwrap();
            let last: usize = rest.split(']').next().unwrap().parse().unwrap();
            last - first.parse::<usize>().unwrap() + 1
        });
        let words = if name.contains("_f64_") { 2 } else { 1 };
        Self { side, depth: depth.parse().unwrap(), blocks: registers / words * 64 / (side * side) }
    }

    /// Block, line and `k` of the `element`th element of A or B in a lane.
    fn factor(self, lane: usize, element: usize, doubles: bool) -> (usize, usize, usize) {
        if doubles && self.blocks == 4 {
            return (lane / 4 % 4, lane % 4, lane / 16);
        }
        let held = self.side * self.depth * self.blocks / 64;
        let group = lane / self.side;
        if self.blocks > 1 {
            (group, lane % self.side, element)
        } else {
            (0, lane % self.side, group * held + element)
        }
    }

    /// Block, row and column of the `element`th element of C or D in a lane.
    fn result(self, lane: usize, element: usize, doubles: bool) -> (usize, usize, usize) {
        match (self.side, doubles) {
            (4, true) => (lane / 4 % 4, lane / 16, lane % 4),
            (4, false) => (lane / 4, element, lane % 4),
            (_, true) => (0, 4 * element + lane / 16, lane % 16),
            (16, false) => (element / 4, 4 * (lane / 16) + element % 4, lane % 16),
            _ => (element / 16, 8 * (element / 4 % 4) + 4 * (lane / 32) + element % 4, lane % 32),
        }
    }
}

/// How a number is written in its width, and read.
fn bits_of(kind: &str, value: f64) -> u64 {
    match kind {
        "f64" => value.to_bits(),
        "f16" => u64::from(half::f16::from_f64(value).to_bits()),
        "bf16" => u64::from(half::bf16::from_f64(value).to_bits()),
        "i8" => u64::from((value as i8).cast_unsigned()),
        "i32" => u64::from((value as i32).cast_unsigned()),
        _ => u64::from((value as f32).to_bits()),
    }
}

fn number_of(kind: &str, bits: u64) -> f64 {
    match kind {
        "f64" => f64::from_bits(bits),
        "i32" => f64::from((bits as u32).cast_signed()),
        _ => f64::from(f32::from_bits(bits as u32)),
    }
}

fn width(kind: &str) -> usize {
    match kind {
        "f64" => 64,
        "f16" | "bf16" => 16,
        "i8" => 8,
        _ => 32,
    }
}

fn put(wave: &mut Wave64, first: usize, lane: usize, bit: usize, width: usize, bits: u64) {
    for word in 0..width.div_ceil(32) {
        let (register, shift) = (first + bit / 32 + word, bit % 32);
        let mut row = *wave.row(register);
        let mask = if width < 32 { ((1 << width) - 1) << shift } else { u32::MAX };
        row[lane] = row[lane] & !mask | ((bits >> (32 * word)) as u32) << shift;
        wave.write_row(register, &row, ALL);
    }
}

/// Small integers, which all formats hold: sums are exact, in whatever order. Gives what differs from the product that is
/// computed from the elements in binary64.
fn multiply(
    arch: Arch,
    text: &str,
    block_of_a: impl Fn(usize) -> usize,
    lane_of_b: impl Fn(usize) -> usize,
    signs: [f64; 3],
) {
    let shape = Shape::of(text);
    let name = text.split(' ').next().unwrap();
    let result_kind = &name["v_mfma_".len()..][..3];
    let kind = ["bf16", "f16", "f64", "i8"].into_iter().find(|&kind| name.contains(kind)).unwrap_or("f32");
    let kind = if result_kind == "f64" { "f64" } else { kind };
    let doubles = kind == "f64";
    let Shape { side, depth, blocks } = shape;
    let mut random = Random(side as u64 * 1000 + depth as u64 * 10 + blocks as u64);
    let mut number = || f64::from((random.next() >> 40) as u32 % 17) - 8.0;
    let mut wave = wave();
    // Matrix operations ignore EXEC.
    wave.set_mask(EXEC, 0x5555);
    let held = (side * depth * blocks / 64).max(1);
    let (mut a, mut b) = (HashMap::new(), HashMap::new());
    let mut start = HashMap::new();
    for lane in 0..64 {
        for element in 0..held {
            let place = shape.factor(lane, element, doubles);
            let (x, y) = (number(), number());
            a.insert(place, x);
            b.insert((lane, element), y);
            put(&mut wave, 0, lane, element * width(kind), width(kind), bits_of(kind, x));
            put(&mut wave, 4, lane, element * width(kind), width(kind), bits_of(kind, y));
        }
        for element in 0..side * side * blocks / 64 {
            let z = number();
            start.insert(shape.result(lane, element, doubles), z);
            let width = width(result_kind);
            put(&mut wave, 32, lane, element * width, width, bits_of(result_kind, z));
        }
    }
    let columns: HashMap<_, f64> = (0..64)
        .flat_map(|lane| (0..held).map(move |element| (lane, element)))
        .map(|(lane, element)| (shape.factor(lane, element, doubles), b[&(lane_of_b(lane), element)]))
        .collect();
    assert_eq!((a.len(), columns.len(), start.len()), (64 * held, 64 * held, side * side * blocks));
    let c_is_zero = text.contains(", 0");
    run(arch, &[text], &mut wave);
    for lane in 0..64 {
        for element in 0..side * side * blocks / 64 {
            let (block, row, column) = shape.result(lane, element, doubles);
            let products = (0..depth).map(|k| a[&(block_of_a(block), row, k)] * columns[&(block, column, k)]);
            let addend = if c_is_zero { 0.0 } else { start[&(block, row, column)] };
            let expected = signs[0] * signs[1] * products.sum::<f64>() + signs[2] * addend;
            let words = width(result_kind) / 32;
            let bits =
                (0..words).map(|word| u64::from(wave.row(64 + element * words + word)[lane]) << (32 * word));
            let found = number_of(result_kind, bits.sum());
            assert_eq!(found, expected, "{arch:?}: {text}: lane {lane}, element {element}");
        }
    }
}

#[test]
fn matrices_multiply_in_their_layouts() {
    for (arch, count) in [(Arch::Gfx90a, 27), (Arch::Gfx940, 24)] {
        let encodings = encodings(arch);
        let plain = |text: &&&str| {
            text.starts_with("v_mfma")
                && !["cbsz", "blgp", "neg", "a["].iter().any(|part| text.contains(part))
        };
        let texts: Vec<&&str> =
            encodings.keys().filter(plain).filter(|text| !text.ends_with(", 0")).collect();
        assert_eq!(texts.len(), count, "{arch:?}");
        for text in texts {
            multiply(arch, text, |block| block, |lane| lane, [1.0; 3]);
        }
    }
    multiply(Arch::Gfx90a, "v_mfma_f32_32x32x1f32 v[64:95], v0, v4, 0", |block| block, |lane| lane, [1.0; 3]);
}

#[test]
fn blocks_and_lanes_are_shared() {
    let own = |at: usize| at;
    let shared = "v_mfma_f32_4x4x1f32 v[64:67], v0, v4, v[32:35] cbsz:2 abid:3";
    multiply(Arch::Gfx90a, shared, |block| block / 4 * 4 + 3, own, [1.0; 3]);
    let shared = "v_mfma_f32_16x16x1f32 v[64:79], v0, v4, v[32:47] cbsz:1 abid:1";
    multiply(Arch::Gfx90a, shared, |block| block | 1, own, [1.0; 3]);
    let patterns: [&dyn Fn(usize) -> usize; 7] = [
        &|lane| if lane < 32 { lane } else { lane - 32 },
        &|lane| if lane < 32 { lane + 32 } else { lane },
        &|lane| if lane < 48 { lane + 16 } else { lane - 48 },
        &|lane| lane % 16,
        &|lane| lane % 16 + 16,
        &|lane| lane % 16 + 32,
        &|lane| lane % 16 + 48,
    ];
    for (number, lane_of_b) in (1..).zip(patterns) {
        let text = format!("v_mfma_f32_16x16x1f32 v[64:79], v0, v4, v[32:47] blgp:{number}");
        multiply(Arch::Gfx90a, &text, own, lane_of_b, [1.0; 3]);
    }
    let signs = "v_mfma_f64_16x16x4_f64 v[64:71], v[0:1], v[4:5], v[32:39] neg:[1,0,1]";
    multiply(Arch::Gfx940, signs, own, own, [-1.0, 1.0, -1.0]);
}

/// CDNA2 takes denormals of 16-bit floats for zeros, CDNA3 does not.
#[test]
fn denormals_of_matrices() {
    for (arch, text, expected) in [
        (Arch::Gfx90a, "v_mfma_f32_16x16x16f16 v[64:67], v[0:1], v[4:5], v[32:35]", 0.0),
        (
            Arch::Gfx940,
            "v_mfma_f32_16x16x16_f16 v[64:67], v[0:1], v[4:5], v[32:35]",
            16.0 * 2.0_f32.powi(-20),
        ),
    ] {
        let mut wave = wave();
        // 2^-20 times 1.
        fill(&mut wave, &[(0, 0x0010_0010), (1, 0x0010_0010), (4, 0x3c00_3c00), (5, 0x3c00_3c00)]);
        run(arch, &[text], &mut wave);
        assert_eq!(float(&wave, 65), expected, "{arch:?}");
        fill(&mut wave, &[(1, 0x3c00_3c00), (6, 0)]);
        run(arch, &["v_dot2c_f32_f16_e32 v6, v0, v1"], &mut wave);
        assert_eq!(float(&wave, 6), expected / 8.0, "{arch:?}");
    }
}

#[test]
fn accumulation_registers_take_part_in_matrices() {
    let mut wave = wave();
    floats(&mut wave, &[(ACCUMULATION, 2.0), (4, 3.0)]);
    (32..48).for_each(|register| floats(&mut wave, &[(ACCUMULATION + register, 1.0)]));
    run(Arch::Gfx90a, &["v_mfma_f32_16x16x1f32 a[64:79], a0, v4, a[32:47]"], &mut wave);
    assert!((64..80).all(|register| float(&wave, ACCUMULATION + register) == 7.0));
}
