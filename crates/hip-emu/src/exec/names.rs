//! One name for each operation, whatever an architecture calls it: gfx11's.

use std::borrow::Cow;

use crate::Arch;

/// What gfx9 and gfx10 call otherwise.
const OLD: &[(&str, &str)] = &[
    ("s_andn1_saveexec_b32", "s_and_not0_saveexec_b32"),
    ("s_andn1_saveexec_b64", "s_and_not0_saveexec_b64"),
    ("s_andn1_wrexec_b32", "s_and_not0_wrexec_b32"),
    ("s_andn1_wrexec_b64", "s_and_not0_wrexec_b64"),
    ("s_andn2_b32", "s_and_not1_b32"),
    ("s_andn2_b64", "s_and_not1_b64"),
    ("s_andn2_saveexec_b32", "s_and_not1_saveexec_b32"),
    ("s_andn2_saveexec_b64", "s_and_not1_saveexec_b64"),
    ("s_andn2_wrexec_b32", "s_and_not1_wrexec_b32"),
    ("s_andn2_wrexec_b64", "s_and_not1_wrexec_b64"),
    ("s_orn1_saveexec_b32", "s_or_not0_saveexec_b32"),
    ("s_orn1_saveexec_b64", "s_or_not0_saveexec_b64"),
    ("s_orn2_b32", "s_or_not1_b32"),
    ("s_orn2_b64", "s_or_not1_b64"),
    ("s_orn2_saveexec_b32", "s_or_not1_saveexec_b32"),
    ("s_orn2_saveexec_b64", "s_or_not1_saveexec_b64"),
    ("s_ff1_i32_b32", "s_ctz_i32_b32"),
    ("s_ff1_i32_b64", "s_ctz_i32_b64"),
    ("s_flbit_i32_b32", "s_clz_i32_u32"),
    ("s_flbit_i32_b64", "s_clz_i32_u64"),
    ("s_flbit_i32", "s_cls_i32"),
    ("s_flbit_i32_i64", "s_cls_i32_i64"),
    ("s_inst_prefetch", "s_set_inst_prefetch_distance"),
    ("v_ffbh_u32", "v_clz_i32_u32"),
    ("v_ffbh_i32", "v_cls_i32"),
    ("v_ffbl_b32", "v_ctz_i32_b32"),
    ("v_cvt_flr_i32_f32", "v_cvt_floor_i32_f32"),
    ("v_cvt_rpi_i32_f32", "v_cvt_nearest_i32_f32"),
    ("v_cvt_pknorm_i16_f16", "v_cvt_pk_norm_i16_f16"),
    ("v_cvt_pknorm_u16_f16", "v_cvt_pk_norm_u16_f16"),
    ("v_cvt_pknorm_i16_f32", "v_cvt_pk_norm_i16_f32"),
    ("v_cvt_pknorm_u16_f32", "v_cvt_pk_norm_u16_f32"),
    ("v_cvt_pkrtz_f16_f32", "v_cvt_pk_rtz_f16_f32"),
    ("v_mul_legacy_f32", "v_mul_dx9_zero_f32"),
    ("v_fma_legacy_f32", "v_fma_dx9_zero_f32"),
    ("v_fmac_legacy_f32", "v_fmac_dx9_zero_f32"),
    ("v_dot2c_f32_f16", "v_dot2acc_f32_f16"),
    ("v_dot2c_i32_i16", "v_dot2acc_i32_i16"),
    ("v_dot4c_i32_i8", "v_dot4acc_i32_i8"),
    ("v_dot8c_i32_i4", "v_dot8acc_i32_i4"),
    ("ds_read_addtid_b32", "ds_load_addtid_b32"),
    ("ds_write_addtid_b32", "ds_store_addtid_b32"),
    ("ds_read2_b32", "ds_load_2addr_b32"),
    ("ds_read2_b64", "ds_load_2addr_b64"),
    ("ds_read2st64_b32", "ds_load_2addr_stride64_b32"),
    ("ds_read2st64_b64", "ds_load_2addr_stride64_b64"),
    ("ds_write2_b32", "ds_store_2addr_b32"),
    ("ds_write2_b64", "ds_store_2addr_b64"),
    ("ds_write2st64_b32", "ds_store_2addr_stride64_b32"),
    ("ds_write2st64_b64", "ds_store_2addr_stride64_b64"),
    ("ds_wrxchg_rtn_b32", "ds_storexchg_rtn_b32"),
    ("ds_wrxchg_rtn_b64", "ds_storexchg_rtn_b64"),
    ("ds_wrxchg2_rtn_b32", "ds_storexchg_2addr_rtn_b32"),
    ("ds_wrxchg2_rtn_b64", "ds_storexchg_2addr_rtn_b64"),
    ("ds_wrxchg2st64_rtn_b32", "ds_storexchg_2addr_stride64_rtn_b32"),
    ("ds_wrxchg2st64_rtn_b64", "ds_storexchg_2addr_stride64_rtn_b64"),
    ("global_load_dword_addtid", "global_load_addtid_b32"),
    ("global_store_dword_addtid", "global_store_addtid_b32"),
];

/// What gfx9 alone calls otherwise.
const GFX9: &[(&str, &str)] = &[
    ("v_add_u32", "v_add_nc_u32"),
    ("v_sub_u32", "v_sub_nc_u32"),
    ("v_subrev_u32", "v_subrev_nc_u32"),
    ("v_add_i32", "v_add_nc_i32"),
    ("v_sub_i32", "v_sub_nc_i32"),
    ("v_add_u16", "v_add_nc_u16"),
    ("v_div_fixup_legacy_f16", "v_div_fixup_f16"),
    ("v_fma_legacy_f16", "v_fma_f16"),
    ("v_mad_legacy_f16", "v_mad_f16"),
    ("v_mad_legacy_i16", "v_mad_i16"),
    ("v_mad_legacy_u16", "v_mad_u16"),
    ("v_sub_u16", "v_sub_nc_u16"),
    ("v_subrev_u16", "v_subrev_nc_u16"),
    ("v_add_i16", "v_add_nc_i16"),
    ("v_sub_i16", "v_sub_nc_i16"),
    ("v_addc_co_u32", "v_add_co_ci_u32"),
    ("v_subb_co_u32", "v_sub_co_ci_u32"),
    ("v_subbrev_co_u32", "v_subrev_co_ci_u32"),
];

/// What gfx12 calls otherwise.
const GFX12: &[(&str, &str)] = &[
    ("s_add_co_u32", "s_add_u32"),
    ("s_add_co_i32", "s_add_i32"),
    ("s_add_co_ci_u32", "s_addc_u32"),
    ("s_sub_co_u32", "s_sub_u32"),
    ("s_sub_co_i32", "s_sub_i32"),
    ("s_sub_co_ci_u32", "s_subb_u32"),
    ("s_addk_co_i32", "s_addk_i32"),
    ("v_mad_co_u64_u32", "v_mad_u64_u32"),
    ("v_mad_co_i64_i32", "v_mad_i64_i32"),
    ("ds_direct_load", "lds_direct_load"),
    ("ds_param_load", "lds_param_load"),
    ("global_inv", "buffer_gl0_inv"),
    ("global_wb", "buffer_gl0_inv"),
    ("global_wbinv", "buffer_gl0_inv"),
];

/// What is loaded or stored, as gfx9 and gfx10 say it after the address space.
const PARTS: &[(&str, &str)] = &[
    ("dword", "b32"),
    ("dwordx2", "b64"),
    ("dwordx3", "b96"),
    ("dwordx4", "b128"),
    ("dwordx8", "b256"),
    ("dwordx16", "b512"),
    ("ubyte", "u8"),
    ("sbyte", "i8"),
    ("ushort", "u16"),
    ("sshort", "i16"),
    ("ubyte_d16", "d16_u8"),
    ("ubyte_d16_hi", "d16_hi_u8"),
    ("sbyte_d16", "d16_i8"),
    ("sbyte_d16_hi", "d16_hi_i8"),
    ("short_d16", "d16_b16"),
    ("short_d16_hi", "d16_hi_b16"),
    ("byte", "b8"),
    ("short", "b16"),
    ("byte_d16_hi", "d16_hi_b8"),
    ("format_d16_hi_x", "d16_hi_format_x"),
    ("format_d16_x", "d16_format_x"),
    ("format_d16_xy", "d16_format_xy"),
    ("format_d16_xyz", "d16_format_xyz"),
    ("format_d16_xyzw", "d16_format_xyzw"),
];

/// Atomic operations, as gfx9 and gfx10 say it after the address space; of 64 bits with `_x2` behind.
const UPDATES: &[(&str, &str, &str)] = &[
    ("add", "add_u32", "add_u64"),
    ("sub", "sub_u32", "sub_u64"),
    ("smin", "min_i32", "min_i64"),
    ("smax", "max_i32", "max_i64"),
    ("umin", "min_u32", "min_u64"),
    ("umax", "max_u32", "max_u64"),
    ("and", "and_b32", "and_b64"),
    ("or", "or_b32", "or_b64"),
    ("xor", "xor_b32", "xor_b64"),
    ("inc", "inc_u32", "inc_u64"),
    ("dec", "dec_u32", "dec_u64"),
    ("swap", "swap_b32", "swap_b64"),
    ("cmpswap", "cmpswap_b32", "cmpswap_b64"),
    ("csub", "csub_u32", "csub_u64"),
    ("fmin", "min_f32", "min_f64"),
    ("fmax", "max_f32", "max_f64"),
    ("fcmpswap", "cmpswap_f32", "cmpswap_f64"),
];

/// The mnemonic without the suffix of its encoding.
fn bare(mnemonic: &str) -> &str {
    let mut stem = mnemonic;
    for suffix in ["_dpp8", "_dpp", "_e32", "_e64", "_sdwa"] {
        stem = stem.strip_suffix(suffix).unwrap_or(stem);
    }
    stem.strip_suffix("_e64").unwrap_or(stem)
}

/// What gfx11 calls the operation of a mnemonic, without the suffix of its encoding.
pub(super) fn stem(arch: Arch, mnemonic: &str) -> Cow<'_, str> {
    let stem = bare(mnemonic);
    let named = |names: &[(&str, &'static str)]| {
        names.iter().find(|&&(name, _)| name == stem).map(|&(_, canonical)| Cow::Borrowed(canonical))
    };
    match arch {
        Arch::Gfx11 => None,
        Arch::Gfx12 => named(GFX12).or_else(|| later(stem)),
        Arch::Gfx10 => named(OLD).or_else(|| older(stem)),
        Arch::Gfx9 | Arch::Gfx90a | Arch::Gfx940 => {
            named(GFX9).or_else(|| matrix(stem)).or_else(|| named(OLD)).or_else(|| older(stem))
        }
    }
    .unwrap_or(Cow::Borrowed(stem))
}

/// Whether the result of an operation is also its addend.
pub(super) fn accumulates(stem: &str) -> bool {
    stem.contains("fmac")
        || stem.starts_with("v_mac_")
        || (stem.starts_with("v_dot") && stem.contains("acc_"))
}

/// Matrix operations of CDNA3, as CDNA2 calls them: without the number of blocks.
fn matrix(stem: &str) -> Option<Cow<'static, str>> {
    let (shape, kind) = stem.strip_prefix("v_mfma_")?.rsplit_once('_')?;
    let kind = match kind {
        "bf16" => "bf16_1k",
        "f16" | "f32" | "f64" | "i8" | "xf32" => kind,
        _ => return None,
    };
    let shape = ["_2b", "_4b", "_16b"].iter().find_map(|blocks| shape.strip_suffix(blocks)).unwrap_or(shape);
    Some(format!("v_mfma_{shape}{kind}").into())
}

/// Whether an operation with a 16-bit result clears the other half of its register, as gfx9's older ones do, instead of
/// keeping it (LLVM's `GCNSubtarget::zeroesHigh16BitsOfDest`).
pub(super) fn clears_other_half(arch: Arch, mnemonic: &str) -> bool {
    const OPERATIONS: [&str; 42] = [
        "v_cvt_f16_f32",
        "v_cvt_f16_u16",
        "v_cvt_f16_i16",
        "v_rcp_f16",
        "v_rsq_f16",
        "v_sqrt_f16",
        "v_log_f16",
        "v_exp_f16",
        "v_sin_f16",
        "v_cos_f16",
        "v_floor_f16",
        "v_ceil_f16",
        "v_trunc_f16",
        "v_rndne_f16",
        "v_fract_f16",
        "v_frexp_mant_f16",
        "v_frexp_exp_i16_f16",
        "v_ldexp_f16",
        "v_lshlrev_b16",
        "v_lshrrev_b16",
        "v_ashrrev_i16",
        "v_add_u16",
        "v_sub_u16",
        "v_subrev_u16",
        "v_mul_lo_u16",
        "v_add_f16",
        "v_sub_f16",
        "v_subrev_f16",
        "v_mul_f16",
        "v_max_f16",
        "v_min_f16",
        "v_max_u16",
        "v_min_u16",
        "v_max_i16",
        "v_min_i16",
        "v_mad_legacy_f16",
        "v_mad_legacy_u16",
        "v_mad_legacy_i16",
        "v_fma_legacy_f16",
        "v_div_fixup_legacy_f16",
        "v_cvt_i16_f16",
        "v_cvt_u16_f16",
    ];
    arch.is_gfx9() && OPERATIONS.contains(&bare(mnemonic))
}

/// Names of gfx9 and gfx10 that are made by rule.
fn older(stem: &str) -> Option<Cow<'static, str>> {
    if let Some(rest) = stem.strip_prefix("ds_read_") {
        return Some(format!("ds_load_{rest}").into());
    }
    if let Some(rest) = stem.strip_prefix("ds_write_") {
        return Some(format!("ds_store_{rest}").into());
    }
    if let Some(rest) = stem.strip_prefix("ds_cmpst_") {
        return Some(format!("ds_cmpstore_{rest}").into());
    }
    for relation in ["v_cmp_tru_", "v_cmpx_tru_"] {
        if let Some(kind) = stem.strip_prefix(relation) {
            return Some(format!("{}t_{kind}", relation.trim_end_matches("tru_")).into());
        }
    }
    for access in ["_load_lds_", "_load_", "_store_"] {
        if let Some((space, part)) = stem.split_once(access) {
            let (_, part) = PARTS.iter().find(|&&(old, _)| old == part)?;
            return Some(format!("{space}{access}{part}").into());
        }
    }
    let (space, name) = stem.split_once("_atomic_")?;
    let (single, name) = name.strip_suffix("_x2").map_or((true, name), |name| (false, name));
    let (_, word, double) = UPDATES.iter().find(|&&(old, ..)| old == name)?;
    Some(format!("{space}_atomic_{}", if single { word } else { double }).into())
}

/// Names of gfx12 that are made by rule. What is called `num` there is what minima and maxima have always been; matrices have
/// another layout than gfx11's under the same names.
fn later(stem: &str) -> Option<Cow<'static, str>> {
    if let Some(kind) = stem.strip_prefix("v_wmma_") {
        return Some(format!("v_wmma_split_{kind}").into());
    }
    if stem.contains("_num_") {
        return Some(stem.replacen("_num_", "_", 1).into());
    }
    let (space, kind) = stem.split_once("sub_clamp_")?;
    Some(format!("{space}csub_{kind}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_operation_has_one_name() {
        for (arch, mnemonic, expected) in [
            (Arch::Gfx10, "global_load_dwordx4", "global_load_b128"),
            (Arch::Gfx10, "buffer_load_ubyte_d16_hi", "buffer_load_d16_hi_u8"),
            (Arch::Gfx10, "flat_store_byte", "flat_store_b8"),
            (Arch::Gfx10, "s_load_dwordx16", "s_load_b512"),
            (Arch::Gfx10, "global_atomic_smax_x2", "global_atomic_max_i64"),
            (Arch::Gfx90a, "global_atomic_pk_add_f16", "global_atomic_pk_add_f16"),
            (Arch::Gfx10, "ds_read_u16_d16_hi", "ds_load_u16_d16_hi"),
            (Arch::Gfx10, "v_cmpx_tru_f32_e64", "v_cmpx_t_f32"),
            (Arch::Gfx10, "v_lshlrev_b32_sdwa", "v_lshlrev_b32"),
            (Arch::Gfx940, "v_add_u32_e32", "v_add_nc_u32"),
            (Arch::Gfx940, "v_mfma_f32_32x32x1_2b_f32", "v_mfma_f32_32x32x1f32"),
            (Arch::Gfx940, "v_mfma_f32_16x16x16_bf16", "v_mfma_f32_16x16x16bf16_1k"),
            (Arch::Gfx90a, "v_mfma_f32_16x16x16bf16_1k", "v_mfma_f32_16x16x16bf16_1k"),
            (Arch::Gfx940, "v_mfma_f32_16x16x32_bf8_fp8", "v_mfma_f32_16x16x32_bf8_fp8"),
            (Arch::Gfx10, "v_add_u32_e32", "v_add_u32"),
            (Arch::Gfx12, "v_dual_max_num_f32", "v_dual_max_f32"),
            (Arch::Gfx12, "v_pk_min_num_f16", "v_pk_min_f16"),
            (Arch::Gfx12, "ds_sub_clamp_rtn_u32", "ds_csub_rtn_u32"),
            (Arch::Gfx12, "v_wmma_f32_16x16x16_f16", "v_wmma_split_f32_16x16x16_f16"),
            (Arch::Gfx11, "v_wmma_f32_16x16x16_f16", "v_wmma_f32_16x16x16_f16"),
        ] {
            assert_eq!(stem(arch, mnemonic), expected, "{mnemonic}");
        }
    }
}
