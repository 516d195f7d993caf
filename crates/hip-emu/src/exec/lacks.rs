//! What a card lacks of the operations that its architecture's table has.

use crate::{
    Instruction,
    arch::Lacks,
    exec::{names::stem, one_lane},
};

/// Whether a card has no such operation, though its architecture's table does.
pub(super) fn is_lacked(lacks: Lacks, instruction: &Instruction) -> bool {
    let stem = &*stem(instruction.arch(), instruction.mnemonic());
    // RDNA1 has unfused operations of the same encoding as those named after a legacy.
    let later = || {
        stem.contains("_atomic_csub_")
            || [
                "v_fma_dx9_zero_f32",
                "v_fmac_dx9_zero_f32",
                "global_load_addtid_b32",
                "global_store_addtid_b32",
            ]
            .contains(&stem)
    };
    match lacks {
        Lacks::Nothing => false,
        Lacks::Rdna2 => later(),
        Lacks::Rdna2AndProducts => later() || stem.starts_with("v_dot"),
        Lacks::ScalarFloats => one_lane::vector_name(instruction.family(), stem).is_some(),
        Lacks::Cdna2 => of_cdna2(stem),
        Lacks::Matrices => of_cdna2(stem) || is_of_matrices(stem),
        Lacks::Products => of_cdna2(stem) || is_of_matrices(stem) || is_of_vega20(stem),
        Lacks::MixedFloats => {
            of_cdna2(stem) || is_of_matrices(stem) || is_of_vega20(stem) || stem.starts_with("v_fma_mix")
        }
    }
}

/// Whether CDNA2 added an operation to CDNA1.
fn of_cdna2(stem: &str) -> bool {
    let packed =
        ["v_pk_fma_f32", "v_pk_mul_f32", "v_pk_add_f32", "v_pk_mov_b32", "v_fmac_f64"].contains(&stem);
    let double = stem.ends_with("_f64") && (stem.contains("_atomic_") || stem.starts_with("ds_add"));
    packed || double || (stem.starts_with("v_mfma") && (stem.ends_with("_1k") || stem.contains("f64")))
}

fn is_of_matrices(stem: &str) -> bool {
    stem.starts_with("v_mfma") || stem.starts_with("v_accvgpr")
}

fn is_of_vega20(stem: &str) -> bool {
    stem.starts_with("v_dot") || ["v_fmac_f32", "v_xnor_b32"].contains(&stem)
}
