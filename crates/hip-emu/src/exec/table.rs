//! How tables of instructions are declared: each body is compiled twice, for the baseline CPU and with AVX2. The unit tests
//! have the first alone, so that they test it, and are compiled in half the time.

/// Which bodies may run on this CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cpu {
    /// Any CPU.
    Portable,
    /// x86-64 with AVX2, FMA and F16C.
    #[cfg(all(target_arch = "x86_64", not(test)))]
    Avx2,
}

impl Cpu {
    /// What the CPU at hand has.
    pub(super) fn detect() -> Self {
        #[cfg(all(target_arch = "x86_64", not(test)))]
        if std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("fma")
            && std::arch::is_x86_feature_detected!("f16c")
        {
            return Self::Avx2;
        }
        Self::Portable
    }
}

/// Declares a function from mnemonics to bodies. An entry's expression gets the wave, the operation and the
/// environment.
macro_rules! instructions {
    ($(#[$meta:meta])* $name:ident($wave:ident, $op:ident, $environment:ident) { $($($mnemonic:literal)|+ => $body:expr;)* }) => {
        $(#[$meta])*
        pub(super) fn $name<const L: usize>(mnemonic: &str, cpu: $crate::exec::table::Cpu) -> Option<$crate::exec::op::Run<L>> {
            use $crate::exec::{environment::Environment, op::{Op, Run}, table::Cpu, wave::Wave};
            Some(match mnemonic {
                $($($mnemonic)|+ => {
                    #[inline(always)]
                    #[allow(unused_variables, reason = "few bodies need all three")]
                    fn body<const L: usize>($wave: &mut Wave<L>, $op: &Op<L>, $environment: &mut Environment<'_>) {
                        $body;
                    }
                    fn portable<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, environment: &mut Environment<'_>) {
                        body(wave, op, environment);
                    }
                    /// # Safety
                    ///
                    /// The CPU has AVX2, FMA and F16C.
                    #[cfg(all(target_arch = "x86_64", not(test)))]
                    #[target_feature(enable = "avx2,fma,f16c")]
                    unsafe fn avx2<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, environment: &mut Environment<'_>) {
                        body(wave, op, environment);
                    }
                    let run: Run<L> = match cpu {
                        Cpu::Portable => portable::<L>,
                        #[cfg(all(target_arch = "x86_64", not(test)))]
                        Cpu::Avx2 => avx2::<L>,
                    };
                    run
                })*
                _ => return None,
            })
        }
    };
}

/// As `instructions`, for bodies that touch one value a wave: wider vectors would not speed them up, so they are compiled once.
macro_rules! scalar_instructions {
    ($(#[$meta:meta])* $name:ident($wave:ident, $op:ident, $environment:ident) { $($($mnemonic:literal)|+ => $body:expr;)* }) => {
        $(#[$meta])*
        pub(super) fn $name<const L: usize>(mnemonic: &str) -> Option<$crate::exec::op::Run<L>> {
            use $crate::exec::{environment::Environment, op::{Op, Run}, wave::Wave};
            Some(match mnemonic {
                $($($mnemonic)|+ => {
                    #[allow(unused_variables, reason = "few bodies need all three")]
                    fn body<const L: usize>($wave: &mut Wave<L>, $op: &Op<L>, $environment: &mut Environment<'_>) {
                        $body;
                    }
                    let run: Run<L> = body::<L>;
                    run
                })*
                _ => return None,
            })
        }
    };
}

pub(super) use {instructions, scalar_instructions};
