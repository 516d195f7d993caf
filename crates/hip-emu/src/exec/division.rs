//! The steps of a division: scaling, fused steps, special operands.

use crate::exec::{
    element::{Element as _, F64, Float},
    exact::{Exact, Rounding},
    float::{F16, frexp, ldexp32, ldexp64},
    op::Op,
    shape::{gather, lanes, map3, set_second},
    table::instructions,
    wave::{VCC, Wave},
};
/// Scales the parts of a division so that no step of it under- or overflows; VCC says that the result must be scaled
/// back.
#[inline(always)]
fn div_scale32<const L: usize>(wave: &mut Wave<L>, op: &Op<L>) {
    let (s0, s1, s2) =
        (f32::row(wave, &op.sources[0]), f32::row(wave, &op.sources[1]), f32::row(wave, &op.sources[2]));
    let (mut row, mut flags) = ([0.0_f32; L], [0_u32; L]);
    for lane in 0..L {
        let (x, denominator, numerator) = (s0[lane], s1[lane], s2[lane]);
        let exponent = |v: f32| frexp(f64::from(v)).1;
        let is_denominator = x.to_bits() == denominator.to_bits();
        let quotient = numerator / denominator;
        let (scaled, flag) = if numerator == 0.0 || denominator == 0.0 {
            (f32::NAN, false)
        } else if exponent(numerator) - exponent(denominator) >= 96 {
            (if is_denominator { ldexp32(x, 64) } else { x }, true)
        } else if denominator.is_subnormal() {
            (ldexp32(x, 64), false)
        } else if (1.0 / f64::from(denominator)).abs() < f64::from(f32::MIN_POSITIVE)
            && quotient.is_subnormal()
        {
            (if is_denominator { ldexp32(x, 64) } else { x }, true)
        } else if (1.0 / f64::from(denominator)).abs() < f64::from(f32::MIN_POSITIVE) {
            (ldexp32(x, -64), false)
        } else if quotient.is_subnormal() {
            (if is_denominator { x } else { ldexp32(x, 64) }, true)
        } else if exponent(numerator) <= -103 {
            (ldexp32(x, 64), false)
        } else {
            (x, false)
        };
        row[lane] = scaled;
        flags[lane] = u32::from(flag);
    }
    let mask = wave.exec();
    f32::store(wave, op.target, &row, mask);
    set_second(wave, op, gather(&flags) & mask);
}

#[inline(always)]
fn div_scale64<const L: usize>(wave: &mut Wave<L>, op: &Op<L>) {
    let (s0, s1, s2) =
        (F64::row(wave, &op.sources[0]), F64::row(wave, &op.sources[1]), F64::row(wave, &op.sources[2]));
    let (mut row, mut flags) = ([F64(0.0); L], [0_u32; L]);
    for lane in 0..L {
        let (x, denominator, numerator) = (s0[lane].0, s1[lane].0, s2[lane].0);
        let is_denominator = x.to_bits() == denominator.to_bits();
        let (quotient, inverse) = (numerator / denominator, 1.0 / denominator);
        let (scaled, flag) = if numerator == 0.0 || denominator == 0.0 {
            (f64::NAN, false)
        } else if frexp(numerator).1 - frexp(denominator).1 >= 768 {
            (if is_denominator { ldexp64(x, 128) } else { x }, true)
        } else if denominator.is_subnormal() {
            (ldexp64(x, 128), false)
        } else if inverse.is_subnormal() && quotient.is_subnormal() {
            (if is_denominator { ldexp64(x, 128) } else { x }, true)
        } else if inverse.is_subnormal() {
            (ldexp64(x, -128), false)
        } else if quotient.is_subnormal() {
            (if is_denominator { x } else { ldexp64(x, 128) }, true)
        } else if frexp(numerator).1 <= -969 {
            (ldexp64(x, 128), false)
        } else {
            (x, false)
        };
        row[lane] = F64(scaled);
        flags[lane] = u32::from(flag);
    }
    let mask = wave.exec();
    F64::store(wave, op.target, &row, mask);
    set_second(wave, op, gather(&flags) & mask);
}

/// Fused multiply-add, scaled back where VCC has a one: up if the addend is large, else down.
#[inline(always)]
fn div_fmas<const L: usize, T: Float>(
    wave: &mut Wave<L>,
    op: &Op<L>,
    shift: i32,
    is_large: impl Fn(T) -> bool,
    fused: impl Fn(T, T, T) -> T,
) {
    let (a, b, c) =
        (T::row(wave, &op.sources[0]), T::row(wave, &op.sources[1]), T::row(wave, &op.sources[2]));
    let (scaled, rounding) = (wave.mask(VCC), wave.mode.rounding(T::FORMAT.precision()));
    let mut row = lanes(|lane| {
        let is_scaled = scaled >> lane & 1 != 0;
        if rounding == Rounding::NearestEven && !is_scaled {
            return fused(a[lane], b[lane], c[lane]);
        }
        let by = match (is_scaled, is_large(c[lane])) {
            (false, _) => 0,
            (true, true) => shift,
            (true, false) => -shift,
        };
        let sum = a[lane].exact().times(b[lane].exact()).plus(c[lane].exact(), rounding);
        T::rounded(sum.scaled(by), rounding)
    });
    T::finish(wave, op, &mut row);
    let mask = wave.exec();
    T::store(wave, op.target, &row, mask);
}

/// Replaces the quotient where the operands are special, and where it is known to vanish.
fn fixup<T: Float>(quotient: T, denominator: T, numerator: T, vanishes: bool) -> T {
    let (divisor, dividend) = (denominator.exact(), numerator.exact());
    let negative = divisor.is_negative() != dividend.is_negative();
    let infinite = |exact: Exact| matches!(exact, Exact::Infinite { .. });
    let exact = match (dividend, divisor) {
        (Exact::Nan { .. }, _) => dividend,
        (_, Exact::Nan { .. }) => divisor,
        _ if (divisor.is_zero() && dividend.is_zero()) || (infinite(divisor) && infinite(dividend)) => {
            Exact::NAN.negated()
        }
        _ if divisor.is_zero() || infinite(dividend) => Exact::Infinite { negative },
        _ if infinite(divisor) || dividend.is_zero() || vanishes => Exact::Zero { negative },
        _ => {
            let magnitude = quotient.exact();
            if magnitude.is_negative() == negative { magnitude } else { magnitude.negated() }
        }
    };
    T::rounded(exact, Rounding::NearestEven)
}

fn exponent(x: f64) -> i32 {
    frexp(x).1
}

instructions! {
    /// Division.
    steps(wave, op, environment) {
        "v_div_scale_f32" => div_scale32(wave, op);
        "v_div_scale_f64" => div_scale64(wave, op);
        "v_div_fmas_f32" => div_fmas(wave, op, 64, |c: f32| c.abs() >= 2.0, f32::mul_add);
        "v_div_fmas_f64" => div_fmas(wave, op, 128, |c: F64| c.0.abs() >= 2.0, |a, b, c| F64(a.0.mul_add(b.0, c.0)));
        "v_div_fixup_f32" => map3::<L, f32, f32, f32, f32>(wave, op, |q, d, n| {
            fixup(q, d, n, exponent(f64::from(n)) - exponent(f64::from(d)) < -150)
        });
        "v_div_fixup_f64" => map3::<L, F64, F64, F64, F64>(wave, op, |q, d, n| {
            fixup(q, d, n, exponent(n.0) - exponent(d.0) < -1075)
        });
        "v_div_fixup_f16" => map3::<L, F16, F16, F16, F16>(wave, op, |q, d, n| fixup(q, d, n, false));
    }
}
