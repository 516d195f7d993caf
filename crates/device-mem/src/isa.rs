//! The vector instructions of this machine's CPU, found at run time, and bodies compiled for them.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{_MM_HINT_T1, _mm_loadu_si128, _mm_prefetch, _mm256_cvtph_ps, _mm256_storeu_ps};

#[cfg(target_arch = "x86_64")]
use half::f16;

#[cfg(target_arch = "x86_64")]
use crate::DType;
use crate::Float;

/// Instructions that this machine's CPU has. A value is the proof: there is none for a CPU that lacks them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Level);

/// The sets that bodies are compiled for, from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Level {
    /// What the target guarantees: SSE2 on x86-64, NEON on aarch64.
    Baseline,
    /// x86-64 with AVX2, FMA and F16C: Haswell, Zen, and what came after.
    Avx2,
    /// The same with AVX-512 F, BW, DQ, VL and VNNI: Ice Lake, Zen 4, and what came after. Compilers before 1.89 do not know
    /// it.
    Avx512,
}

/// Work on the CPU that is compiled for each [`Level`].
///
/// Rust never contracts a product and a sum, so a body that calls no fused operation computes the same bits at each level.
pub trait Body {
    /// What it gives.
    type Output;

    /// Does the work. Mark it, and what it calls in its loops, `#[inline(always)]`: what is not inlined is compiled for the
    /// baseline.
    fn run(self) -> Self::Output;
}

impl Isa {
    /// The most that this machine's CPU has.
    pub fn best() -> Isa {
        Isa(detect())
    }

    /// All that this machine's CPU has, the baseline first: for tests that compare them.
    pub fn available() -> impl Iterator<Item = Isa> {
        let best = detect();
        [Level::Baseline, Level::Avx2, Level::Avx512].into_iter().filter(move |&level| level <= best).map(Isa)
    }

    /// Which set it is.
    pub fn level(self) -> Level {
        self.0
    }

    /// Writes `values` as f32, exact, to the start of `wide`: as many as there are in both.
    pub fn widen<T: Float>(self, values: &[T], wide: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        if let (true, Some(values)) = (self.0 >= Level::Avx2, halves(values)) {
            // SAFETY: the CPU has the features of the function, as these levels exist only where it has them.
            return unsafe { widen_halves(values, wide) };
        }
        self.run(Widen { values, wide });
    }

    /// Writes two rows of as many values as f32, exact, by turns: the first of both, then the second of both, and so on; as many
    /// as there are in all of them.
    pub fn widen_pair<T: Float>(self, values: [&[T]; 2], wide: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        if let (true, [Some(first), Some(second)]) = (self.0 >= Level::Avx2, values.map(halves)) {
            // SAFETY: the CPU has the features of the function, as these levels exist only where it has them.
            return unsafe { widen_pair_of_halves([first, second], wide) };
        }
        self.run(WidenPair { values, wide });
    }

    /// Runs what was compiled for these instructions.
    pub fn run<B: Body>(self, body: B) -> B::Output {
        match self.0 {
            // SAFETY: the CPU has the features of the function, as a value of this level exists only where `detect` found
            // them.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { avx512::run(body) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { run_avx2(body) },
            _ => body.run(),
        }
    }
}

/// Asks for the line of memory at an address that is going to be read soon, into the second level of caches, which waits for more
/// lines at once than the first. Any address will do: nothing is read that the program could see.
#[inline(always)]
pub fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 CPU has the instruction, and it faults on no address.
    unsafe {
        _mm_prefetch::<_MM_HINT_T1>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

struct Widen<'a, T> {
    values: &'a [T],
    wide: &'a mut [f32],
}

impl<T: Float> Body for Widen<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        const CHUNK: usize = 16;
        let len = self.values.len().min(self.wide.len());
        let (values, values_tail) = self.values[..len].as_chunks::<CHUNK>();
        let (wide, wide_tail) = self.wide[..len].as_chunks_mut::<CHUNK>();
        for (wide, values) in wide.iter_mut().zip(values) {
            *wide = T::widen(values);
        }
        for (wide, value) in wide_tail.iter_mut().zip(values_tail) {
            [*wide] = T::widen(&[*value]);
        }
    }
}

struct WidenPair<'a, T> {
    values: [&'a [T]; 2],
    wide: &'a mut [f32],
}

impl<T: Float> Body for WidenPair<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        const CHUNK: usize = 16;
        let [first, second] = self.values.map(<[T]>::as_chunks::<CHUNK>);
        let (wide, wide_tail) = self.wide.as_chunks_mut::<{ 2 * CHUNK }>();
        for ((wide, first), second) in wide.iter_mut().zip(first.0).zip(second.0) {
            let (first, second) = (T::widen(first), T::widen(second));
            for index in 0..CHUNK {
                (wide[2 * index], wide[2 * index + 1]) = (first[index], second[index]);
            }
        }
        let (wide_tail, _) = wide_tail.as_chunks_mut::<2>();
        for ((wide, first), second) in wide_tail.iter_mut().zip(first.1).zip(second.1) {
            [wide[0]] = T::widen(&[*first]);
            [wide[1]] = T::widen(&[*second]);
        }
    }
}

/// The values, if they are f16: those have instructions of their own, which no compiler finds.
#[cfg(target_arch = "x86_64")]
fn halves<T: Float>(values: &[T]) -> Option<&[f16]> {
    if T::DTYPE == DType::F16 { bytemuck::try_cast_slice(values).ok() } else { None }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn widen_halves(values: &[f16], wide: &mut [f32]) {
    let len = values.len().min(wide.len());
    let (values, values_tail) = values[..len].as_chunks::<8>();
    let (wide, wide_tail) = wide[..len].as_chunks_mut::<8>();
    for (wide, values) in wide.iter_mut().zip(values) {
        // SAFETY: there are eight elements of 16 bits.
        let values = _mm256_cvtph_ps(unsafe { _mm_loadu_si128(values.as_ptr().cast()) });
        // SAFETY: there are eight elements.
        unsafe { _mm256_storeu_ps(wide.as_mut_ptr(), values) };
    }
    for (wide, value) in wide_tail.iter_mut().zip(values_tail) {
        *wide = value.to_f32();
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn widen_pair_of_halves([first, second]: [&[f16]; 2], wide: &mut [f32]) {
    const CHUNK: usize = 16;
    for (wide, (first, second)) in
        wide.chunks_mut(2 * CHUNK).zip(first.chunks(CHUNK).zip(second.chunks(CHUNK)))
    {
        let mut sides = [[0.0; CHUNK]; 2];
        widen_halves(first, &mut sides[0]);
        widen_halves(second, &mut sides[1]);
        let (pairs, _) = wide.as_chunks_mut::<2>();
        for (index, pair) in pairs.iter_mut().take(first.len().min(second.len())).enumerate() {
            *pair = [sides[0][index], sides[1][index]];
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn run_avx2<B: Body>(body: B) -> B::Output {
    body.run()
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    let has_avx2 = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    match has_avx2 {
        true if avx512::is_there() => Level::Avx512,
        true => Level::Avx2,
        false => Level::Baseline,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Level {
    Level::Baseline
}

#[cfg(target_arch = "x86_64")]
#[rustversion::since(1.89)]
mod avx512 {
    use super::Body;

    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    pub(super) fn run<B: Body>(body: B) -> B::Output {
        body.run()
    }

    pub(super) fn is_there() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni")
    }
}

/// Compilers before 1.89 know no such level, so that `run` is not called.
#[cfg(target_arch = "x86_64")]
#[rustversion::before(1.89)]
mod avx512 {
    pub(super) use super::run_avx2 as run;

    pub(super) fn is_there() -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum of the products of two rows, in 16 lanes.
    struct Products<'a>(&'a [f32], &'a [f32]);

    impl Body for Products<'_> {
        type Output = f32;

        #[inline(always)]
        fn run(self) -> f32 {
            let mut lanes = [0.0_f32; 16];
            for (x, y) in self.0.chunks_exact(16).zip(self.1.chunks_exact(16)) {
                for lane in 0..16 {
                    lanes[lane] += x[lane] * y[lane];
                }
            }
            lanes.iter().sum()
        }
    }

    #[test]
    fn every_level_computes_the_same_bits() {
        let values = Vec::from_iter((0..4096).map(|index| ((index * 37 % 101) as f32 - 50.0) * 1.1));
        let (x, y) = values.split_at(2048);
        let bits = Vec::from_iter(Isa::available().map(|isa| isa.run(Products(x, y)).to_bits()));
        assert!(bits.iter().all(|&other| other == bits[0]), "{bits:?}");
        assert_eq!(bits.len(), 1 + Isa::best().level() as usize, "each level up to the best is there");
    }
}
