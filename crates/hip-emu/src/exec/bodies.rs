//! The body of each operation.

use crate::{
    Family,
    exec::{
        atomic_ops, cdna, control, division, float8, lanes, matrix, memory_ops, mfma, op::Run, packed,
        scalar_memory, scalar_ops, split_matrix, table::Cpu, typed_buffers, vector_float, vector_int,
        vector_rare,
    },
};

/// Where the function of a mnemonic is.
pub(super) fn body<const L: usize>(family: Family, stem: &str, cpu: Cpu) -> Option<Run<L>> {
    match family {
        Family::Sop1 | Family::Sop2 | Family::Sopc | Family::Sopk | Family::Sopp => scalar_ops::one(stem)
            .or_else(|| scalar_ops::two(stem))
            .or_else(|| scalar_ops::comparison(stem))
            .or_else(|| control::flow(stem)),
        Family::Smem => scalar_memory::loads(stem).or_else(|| control::flow(stem)),
        Family::Vopc => comparison(stem, cpu),
        Family::Vop1 | Family::Vop2 | Family::Vop3 | Family::Vopd => vector_float::arithmetic(stem, cpu)
            .or_else(|| vector_int::arithmetic(stem, cpu))
            .or_else(|| vector_int::bits(stem, cpu))
            .or_else(|| vector_float::unary(stem, cpu))
            .or_else(|| vector_float::conversion(stem, cpu))
            .or_else(|| lanes::masks(stem, cpu))
            .or_else(|| division::steps(stem, cpu))
            .or_else(|| vector_rare::rare(stem, cpu))
            .or_else(|| float8::operations(stem, cpu))
            .or_else(|| lanes::crossing(stem, cpu))
            .or_else(|| packed::products(stem, cpu))
            .or_else(|| packed::halves_at_once(stem, cpu))
            .or_else(|| cdna::only(stem, cpu))
            .or_else(|| control::flow(stem))
            .or_else(|| comparison(stem, cpu)),
        Family::Vop3p => packed::halves_at_once(stem, cpu)
            .or_else(|| packed::products(stem, cpu))
            .or_else(|| matrix::multiply(stem, cpu))
            .or_else(|| split_matrix::multiply(stem, cpu))
            .or_else(|| float8::operations(stem, cpu))
            .or_else(|| cdna::only(stem, cpu))
            .or_else(|| mfma::blocks(stem, cpu)),
        Family::Ds => memory_ops::lds(stem, cpu)
            .or_else(|| memory_ops::lds_pairs(stem, cpu))
            .or_else(|| atomic_ops::lds_atomics(stem, cpu))
            .or_else(|| memory_ops::implied(stem, cpu))
            .or_else(|| lanes::crossing(stem, cpu))
            .or_else(|| control::flow(stem)),
        Family::LdsDirect => memory_ops::implied(stem, cpu),
        Family::Global => memory_ops::global(stem, cpu)
            .or_else(|| atomic_ops::global_atomics(stem, cpu))
            .or_else(|| memory_ops::implied(stem, cpu))
            .or_else(|| control::flow(stem)),
        Family::Flat => memory_ops::flat(stem, cpu).or_else(|| atomic_ops::flat_atomics(stem, cpu)),
        Family::Scratch => memory_ops::scratch(stem, cpu),
        Family::Mubuf => memory_ops::buffer(stem, cpu)
            .or_else(|| atomic_ops::buffer_atomics(stem, cpu))
            .or_else(|| typed_buffers::elements(stem, cpu))
            .or_else(|| control::flow(stem)),
        Family::Mtbuf => typed_buffers::elements(stem, cpu),
        _ => None,
    }
}

fn comparison<const L: usize>(stem: &str, cpu: Cpu) -> Option<Run<L>> {
    vector_float::compare32(stem, cpu)
        .or_else(|| vector_float::compare16(stem, cpu))
        .or_else(|| vector_float::compare64(stem, cpu))
        .or_else(|| vector_float::classes(stem, cpu))
        .or_else(|| vector_int::compare_i32(stem, cpu))
        .or_else(|| vector_int::compare_u32(stem, cpu))
        .or_else(|| vector_int::compare_i64(stem, cpu))
        .or_else(|| vector_int::compare_u64(stem, cpu))
        .or_else(|| vector_int::compare_i16(stem, cpu))
        .or_else(|| vector_int::compare_u16(stem, cpu))
}

/// Whether the body of an operation honours the clamp bit.
pub(super) fn clamps(stem: &str) -> bool {
    if stem == "v_dot2_f16_f16" {
        return false;
    }
    const ENDS: [&str; 11] = [
        "_f16", "_f32", "_f64", "_iu8", "_iu4", "_u32_u8", "_u32_u4", "_i32_i8", "_i32_i4", "_i32_i16",
        "_u32_u16",
    ];
    const STARTS: [&str; 10] = [
        "v_add_nc_",
        "v_sub_nc_",
        "v_subrev_nc_",
        "v_pk_add_",
        "v_pk_sub_",
        "v_cvt_f16_",
        "v_cvt_f32_",
        "v_cvt_f64_",
        "v_cvt_off_f32_",
        "v_dot2_f32_",
    ];
    ENDS.iter().any(|end| stem.ends_with(end)) || STARTS.iter().any(|start| stem.starts_with(start))
}
