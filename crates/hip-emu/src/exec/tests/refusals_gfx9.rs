//! What is refused by name of gfx9, exactly.

use crate::{
    Arch,
    exec::tests::refusals::{assert_refused, is_refused_form},
};

/// Of CDNA2 and CDNA3.
const GFX9: &[(&str, &str)] = &[
    ("buffer_load_d16_format_x", "numbers of formats that are not gfx11's"),
    ("buffer_load_d16_format_xy", "numbers of formats that are not gfx11's"),
    ("buffer_load_d16_format_xyz", "numbers of formats that are not gfx11's"),
    ("buffer_load_d16_format_xyzw", "numbers of formats that are not gfx11's"),
    ("buffer_load_d16_hi_format_x", "numbers of formats that are not gfx11's"),
    ("buffer_load_format_x", "numbers of formats that are not gfx11's"),
    ("buffer_load_format_xy", "numbers of formats that are not gfx11's"),
    ("buffer_load_format_xyz", "numbers of formats that are not gfx11's"),
    ("buffer_load_format_xyzw", "numbers of formats that are not gfx11's"),
    ("buffer_store_d16_format_x", "numbers of formats that are not gfx11's"),
    ("buffer_store_d16_format_xy", "numbers of formats that are not gfx11's"),
    ("buffer_store_d16_format_xyz", "numbers of formats that are not gfx11's"),
    ("buffer_store_d16_format_xyzw", "numbers of formats that are not gfx11's"),
    ("buffer_store_d16_hi_format_x", "numbers of formats that are not gfx11's"),
    ("buffer_store_format_x", "numbers of formats that are not gfx11's"),
    ("buffer_store_format_xy", "numbers of formats that are not gfx11's"),
    ("buffer_store_format_xyz", "numbers of formats that are not gfx11's"),
    ("buffer_store_format_xyzw", "numbers of formats that are not gfx11's"),
    ("ds_gws_barrier", "global wave synchronisation: a queue that no launch here has"),
    ("ds_gws_init", "global wave synchronisation: a queue that no launch here has"),
    ("ds_gws_sema_br", "global wave synchronisation: a queue that no launch here has"),
    ("ds_gws_sema_p", "global wave synchronisation: a queue that no launch here has"),
    ("ds_gws_sema_release_all", "global wave synchronisation: a queue that no launch here has"),
    ("ds_gws_sema_v", "global wave synchronisation: a queue that no launch here has"),
    ("s_atomic_add_u32", "atomics of the scalar cache, which no compiler emits"),
    ("s_atomic_add_u64", "atomics of the scalar cache, which no compiler emits"),
    ("s_atomic_and_b32", "atomics of the scalar cache, which no compiler emits"),
    ("s_atomic_and_b64", "atomics of the scalar cache, which no compiler emits"),
    ("s_atomic_cmpswap_b32", "atomics of the scalar cache, which no compiler emits"),
    ("s_atomic_cmpswap_b64", "atomics of the scalar cache, which no compiler emits"),
    ("s_atomic_dec_u32", "atomics of the scalar cache, which no compiler emits"),
    ("s_atomic_dec_u64", "atomics of the scalar cache, which no compiler emits"),
    ("s_atomic_inc_u32", "atomics of the scalar cache, which no compiler emits"),
    ("s_atomic_inc_u64", "atomics of the scalar cache, which no compiler emits"),
    ("s_atomic_max_i32", "atomics of the scalar cache, which no compiler emits"),
    ("s_atomic_max_i64", "atomics of the scalar cache, which no compiler emits"),
    ("s_atomic_max_u32", "atomics of the scalar cache, which no compiler emits"),
    ("s_atomic_max_u64", "atomics of the scalar cache, which no compiler emits"),
    ("s_atomic_min_i32", "atomics of the scalar cache, which no compiler emits"),
    ("s_atomic_min_i64", "atomics of the scalar cache, which no compiler emits"),
    ("s_atomic_min_u32", "atomics of the scalar cache, which no compiler emits"),
    ("s_atomic_min_u64", "atomics of the scalar cache, which no compiler emits"),
    ("s_atomic_or_b32", "atomics of the scalar cache, which no compiler emits"),
    ("s_atomic_or_b64", "atomics of the scalar cache, which no compiler emits"),
    ("s_atomic_sub_u32", "atomics of the scalar cache, which no compiler emits"),
    ("s_atomic_sub_u64", "atomics of the scalar cache, which no compiler emits"),
    ("s_atomic_swap_b32", "atomics of the scalar cache, which no compiler emits"),
    ("s_atomic_swap_b64", "atomics of the scalar cache, which no compiler emits"),
    ("s_atomic_xor_b32", "atomics of the scalar cache, which no compiler emits"),
    ("s_atomic_xor_b64", "atomics of the scalar cache, which no compiler emits"),
    ("s_buffer_atomic_add_u32", "atomics of the scalar cache, which no compiler emits"),
    ("s_buffer_atomic_add_u64", "atomics of the scalar cache, which no compiler emits"),
    ("s_buffer_atomic_and_b32", "atomics of the scalar cache, which no compiler emits"),
    ("s_buffer_atomic_and_b64", "atomics of the scalar cache, which no compiler emits"),
    ("s_buffer_atomic_cmpswap_b32", "atomics of the scalar cache, which no compiler emits"),
    ("s_buffer_atomic_cmpswap_b64", "atomics of the scalar cache, which no compiler emits"),
    ("s_buffer_atomic_dec_u32", "atomics of the scalar cache, which no compiler emits"),
    ("s_buffer_atomic_dec_u64", "atomics of the scalar cache, which no compiler emits"),
    ("s_buffer_atomic_inc_u32", "atomics of the scalar cache, which no compiler emits"),
    ("s_buffer_atomic_inc_u64", "atomics of the scalar cache, which no compiler emits"),
    ("s_buffer_atomic_max_i32", "atomics of the scalar cache, which no compiler emits"),
    ("s_buffer_atomic_max_i64", "atomics of the scalar cache, which no compiler emits"),
    ("s_buffer_atomic_max_u32", "atomics of the scalar cache, which no compiler emits"),
    ("s_buffer_atomic_max_u64", "atomics of the scalar cache, which no compiler emits"),
    ("s_buffer_atomic_min_i32", "atomics of the scalar cache, which no compiler emits"),
    ("s_buffer_atomic_min_i64", "atomics of the scalar cache, which no compiler emits"),
    ("s_buffer_atomic_min_u32", "atomics of the scalar cache, which no compiler emits"),
    ("s_buffer_atomic_min_u64", "atomics of the scalar cache, which no compiler emits"),
    ("s_buffer_atomic_or_b32", "atomics of the scalar cache, which no compiler emits"),
    ("s_buffer_atomic_or_b64", "atomics of the scalar cache, which no compiler emits"),
    ("s_buffer_atomic_sub_u32", "atomics of the scalar cache, which no compiler emits"),
    ("s_buffer_atomic_sub_u64", "atomics of the scalar cache, which no compiler emits"),
    ("s_buffer_atomic_swap_b32", "atomics of the scalar cache, which no compiler emits"),
    ("s_buffer_atomic_swap_b64", "atomics of the scalar cache, which no compiler emits"),
    ("s_buffer_atomic_xor_b32", "atomics of the scalar cache, which no compiler emits"),
    ("s_buffer_atomic_xor_b64", "atomics of the scalar cache, which no compiler emits"),
    ("s_buffer_store_b128", "stores of the scalar cache, which no compiler emits"),
    ("s_buffer_store_b32", "stores of the scalar cache, which no compiler emits"),
    ("s_buffer_store_b64", "stores of the scalar cache, which no compiler emits"),
    ("s_cbranch_g_fork", "stacks of branches, which no compiler emits"),
    ("s_cbranch_i_fork", "stacks of branches, which no compiler emits"),
    ("s_cbranch_join", "stacks of branches, which no compiler emits"),
    ("s_endpgm_ordered_ps_done", "pixel shaders"),
    ("s_endpgm_saved", "trap handlers"),
    ("s_rfe_b64", "trap handlers"),
    ("s_rfe_restore_b64", "trap handlers"),
    ("s_scratch_load_b128", "stores of the scalar cache, which no compiler emits"),
    ("s_scratch_load_b32", "stores of the scalar cache, which no compiler emits"),
    ("s_scratch_load_b64", "stores of the scalar cache, which no compiler emits"),
    ("s_scratch_store_b128", "stores of the scalar cache, which no compiler emits"),
    ("s_scratch_store_b32", "stores of the scalar cache, which no compiler emits"),
    ("s_scratch_store_b64", "stores of the scalar cache, which no compiler emits"),
    ("s_sendmsghalt", "halts until a debugger goes on"),
    ("s_setkill", "debuggers"),
    ("s_setvskip", "skips vector operations, which no compiler asks for"),
    ("s_store_b128", "stores of the scalar cache, which no compiler emits"),
    ("s_store_b32", "stores of the scalar cache, which no compiler emits"),
    ("s_store_b64", "stores of the scalar cache, which no compiler emits"),
    ("v_cvt_pkaccum_u8_f32", "no compiler emits it"),
    ("v_screen_partition_4se_b32", "screens"),
];

/// Of CDNA2 alone.
const CDNA2: &[(&str, &str)] = &[
    ("tbuffer_load_format_x", "numbers of formats that are not gfx11's"),
    ("tbuffer_load_format_xy", "numbers of formats that are not gfx11's"),
    ("tbuffer_load_format_xyz", "numbers of formats that are not gfx11's"),
    ("tbuffer_load_format_xyzw", "numbers of formats that are not gfx11's"),
    ("tbuffer_store_format_x", "numbers of formats that are not gfx11's"),
    ("tbuffer_store_format_xy", "numbers of formats that are not gfx11's"),
    ("tbuffer_store_format_xyzw", "numbers of formats that are not gfx11's"),
];

/// Of CDNA3 alone.
const CDNA3: &[(&str, &str)] = &[
    ("global_load_lds_b32", "loads to LDS that are not through a descriptor"),
    ("global_load_lds_i16", "loads to LDS that are not through a descriptor"),
    ("global_load_lds_i8", "loads to LDS that are not through a descriptor"),
    ("global_load_lds_u16", "loads to LDS that are not through a descriptor"),
    ("global_load_lds_u8", "loads to LDS that are not through a descriptor"),
    ("scratch_load_lds_b32", "loads to LDS that are not through a descriptor"),
    ("scratch_load_lds_i16", "loads to LDS that are not through a descriptor"),
    ("scratch_load_lds_i8", "loads to LDS that are not through a descriptor"),
    ("scratch_load_lds_u16", "loads to LDS that are not through a descriptor"),
    ("scratch_load_lds_u8", "loads to LDS that are not through a descriptor"),
    ("v_cvt_sr_bf8_f32", "stochastic rounding"),
    ("v_cvt_sr_fp8_f32", "stochastic rounding"),
    ("v_mfma_f32_16x16x32_bf8_bf8", "matrices of 8-bit floats"),
    ("v_mfma_f32_16x16x32_bf8_fp8", "matrices of 8-bit floats"),
    ("v_mfma_f32_16x16x32_fp8_bf8", "matrices of 8-bit floats"),
    ("v_mfma_f32_16x16x32_fp8_fp8", "matrices of 8-bit floats"),
    ("v_mfma_f32_32x32x16_bf8_bf8", "matrices of 8-bit floats"),
    ("v_mfma_f32_32x32x16_bf8_fp8", "matrices of 8-bit floats"),
    ("v_mfma_f32_32x32x16_fp8_bf8", "matrices of 8-bit floats"),
    ("v_mfma_f32_32x32x16_fp8_fp8", "matrices of 8-bit floats"),
    ("v_smfmac_f32_16x16x32_bf16", "sparse matrices"),
    ("v_smfmac_f32_16x16x32_f16", "sparse matrices"),
    ("v_smfmac_f32_16x16x64_bf8_bf8", "matrices of 8-bit floats"),
    ("v_smfmac_f32_16x16x64_bf8_fp8", "matrices of 8-bit floats"),
    ("v_smfmac_f32_16x16x64_fp8_bf8", "matrices of 8-bit floats"),
    ("v_smfmac_f32_16x16x64_fp8_fp8", "matrices of 8-bit floats"),
    ("v_smfmac_f32_32x32x16_bf16", "sparse matrices"),
    ("v_smfmac_f32_32x32x16_f16", "sparse matrices"),
    ("v_smfmac_f32_32x32x32_bf8_bf8", "matrices of 8-bit floats"),
    ("v_smfmac_f32_32x32x32_bf8_fp8", "matrices of 8-bit floats"),
    ("v_smfmac_f32_32x32x32_fp8_bf8", "matrices of 8-bit floats"),
    ("v_smfmac_f32_32x32x32_fp8_fp8", "matrices of 8-bit floats"),
    ("v_smfmac_i32_16x16x64_i8", "sparse matrices"),
    ("v_smfmac_i32_32x32x32_i8", "sparse matrices"),
];

/// Forms that are refused of gfx9's operations.
fn form(name: &str, text: &str) -> bool {
    let integers = ["_min", "_max", "_med3", "_clz", "_cls"].iter().any(|part| name.contains(part));
    // More blocks than there are, and patterns of lanes for binary64.
    let blocks = name.starts_with("v_mfma") && [" cbsz:", " abid:"].iter().any(|part| text.contains(part));
    let bytes = name.starts_with("v_cvt_pk_f32_") && text.contains(" clamp");
    let doubles = name.starts_with("v_mfma_f64") && text.contains(" blgp:");
    is_refused_form(name, text)
        || text.ends_with(" lds")
        || (integers && text.contains(" clamp"))
        || blocks
        || bytes
        || doubles
}

fn sorted<'a>(lists: [&[(&'a str, &'a str)]; 2]) -> Vec<(&'a str, &'a str)> {
    let mut all = lists.concat();
    all.sort_unstable();
    all
}

#[test]
fn what_cdna2_refuses() {
    assert_eq!(assert_refused(Arch::Gfx90a, &sorted([GFX9, CDNA2]), form), 1064);
}

#[test]
fn what_cdna3_refuses() {
    assert_eq!(assert_refused(Arch::Gfx940, &sorted([GFX9, CDNA3]), form), 1094);
}
