//! Any bytes decode or give an error, within bounds, and alike every time.

use hip_emu::{Arch, DecodeError, Dialect, decode};

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(length).collect()
    }
}

/// What decoding says about `code`, after checking its bounds and printing it.
fn decode_within(arch: Arch, code: &[u8]) -> usize {
    match decode(arch, code) {
        Ok(instruction) => {
            let length = instruction.length();
            assert!(
                (4..=16).contains(&length) && length % 4 == 0 && length <= code.len(),
                "{arch:?}: {code:02x?}"
            );
            for dialect in [Dialect::Llvm19, Dialect::Llvm22] {
                assert!(instruction.display(dialect).to_string().starts_with(instruction.mnemonic()));
            }
            let again = decode(arch, &code[..length]).map(|again| again.to_string());
            assert_eq!(again, Ok(instruction.to_string()), "{arch:?}: bytes after the instruction matter");
            length
        }
        Err(DecodeError::Truncated { needed, available }) => {
            assert!(needed > available && available <= code.len() && needed <= 16, "{arch:?}: {code:02x?}");
            4
        }
        Err(DecodeError::Refused { length, .. }) => {
            assert!((4..=16).contains(&length) && length <= code.len(), "{arch:?}: {code:02x?}");
            length
        }
        Err(_) => 4,
    }
}

#[test]
fn random_streams_decode_within_bounds() {
    let mut random = Random(0x6779_7265);
    for arch in Arch::ALL {
        let mut decoded = 0;
        for length in (0..64).chain([4096; 24]) {
            let code = random.bytes(length);
            let mut rest = code.as_slice();
            while !rest.is_empty() {
                decoded += usize::from(decode(arch, rest).is_ok());
                rest = &rest[decode_within(arch, rest).min(rest.len())..];
            }
        }
        assert!(decoded > 5_000, "{arch:?}: only {decoded} of the random instructions decode");
    }
}

/// Random bits under each common prefix reach every family's operands.
#[test]
fn every_prefix_decodes_within_bounds() {
    let mut random = Random(0x6875);
    for arch in Arch::ALL {
        for prefix in 0..=u16::MAX {
            let mut code = random.bytes(16);
            code[2..4].copy_from_slice(&prefix.to_le_bytes());
            decode_within(arch, &code);
        }
    }
}

#[test]
fn every_cut_of_an_instruction_is_an_error() {
    // v_fma_f32 with a literal: 12 bytes.
    let code = [0x05, 0x00, 0x13, 0xd6, 0xff, 0x04, 0x0e, 0x04, 0x56, 0x34, 0x12, 0xaf];
    let whole = decode(Arch::Gfx11, &code).map(|instruction| instruction.to_string());
    assert_eq!(whole, Ok("v_fma_f32 v5, 0xaf123456, v2, v3".to_owned()));
    for (available, needed) in [(0, 4), (3, 4), (4, 8), (7, 8), (8, 12), (11, 12)] {
        let error = decode(Arch::Gfx11, &code[..available]).map(|instruction| instruction.to_string());
        assert_eq!(error, Err(DecodeError::Truncated { needed, available }));
    }
}

#[test]
fn what_is_no_instruction_is_named() {
    let unknown =
        decode(Arch::Gfx11, &[0x00, 0x00, 0x00, 0xe4, 1, 0, 0, 0]).map(|instruction| instruction.to_string());
    assert_eq!(unknown, Err(DecodeError::Unknown { arch: Arch::Gfx11, first: 0xe400_0000, second: 1 }));
    // s_mov_b32 s0, from operand code 209.
    let code = decode(Arch::Gfx11, &[0xd1, 0x00, 0x80, 0xbe]).map(|instruction| instruction.to_string());
    assert!(
        matches!(code, Err(DecodeError::BadOperand { mnemonic: "s_mov_b32", code: 209, .. })),
        "{code:?}"
    );
}
