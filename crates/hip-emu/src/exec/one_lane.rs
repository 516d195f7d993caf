//! Float arithmetic on scalar registers: a lane's, once for the wave.

use crate::{
    Family, Half,
    exec::{
        element::scalar32,
        environment::Environment,
        op::{Op, Place, Target},
        wave::{DROPPED, EXEC, SPARE_ROWS, Wave},
    },
};

/// The vector operation that an operation on scalar registers does for the wave.
pub(super) fn vector_name(family: Family, stem: &str) -> Option<String> {
    if let Some(name) = stem.strip_prefix("v_s_") {
        return Some(format!("v_{name}"));
    }
    let scalar = matches!(family, Family::Sop1 | Family::Sop2 | Family::Sopc);
    let float = stem.contains("_f32") || stem.contains("_f16");
    let name = stem.strip_prefix("s_").filter(|_| scalar && float)?;
    Some(format!("v_{}", name.replacen("cvt_hi_", "cvt_", 1)))
}

/// Runs a vector operation in one lane, on scalar sources; the result, of which 16 bits are extended with zeros, goes to a scalar
/// register, that of a comparison to SCC.
///
/// # Safety
///
/// As for the operation that is wrapped.
pub(super) unsafe fn once<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, environment: &mut Environment<'_>) {
    let exec = wave.exec();
    let mut inner = *op;
    for source in &mut inner.sources {
        source.place = Place::Constant(scalar32(wave, source.place).into());
    }
    let spare = wave.vgprs.len() - SPARE_ROWS;
    wave.write_row(spare, &[0; L], Wave::<L>::all_lanes());
    inner.target = match op.target {
        Target::None => Target::Scalar(u8::try_from(DROPPED).unwrap_or(u8::MAX)),
        _ => Target::Vector { first: u16::try_from(spare).unwrap_or(u16::MAX), half: Half::Whole },
    };
    wave.set_mask(EXEC, 1);
    // SAFETY: the contract is the caller's.
    unsafe { (op.inner)(wave, &inner, environment) };
    wave.set_mask(EXEC, exec);
    match op.target {
        Target::Scalar(index) => {
            let value = wave.row(spare)[0];
            wave.set_scalar(usize::from(index), value);
        }
        _ => wave.scc = wave.scalar(DROPPED) & 1 != 0,
    }
}
