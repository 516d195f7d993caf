//! Architectures, encoding families and spellings.

/// Architectures that share one instruction encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Arch {
    /// RDNA2: gfx1030 to gfx1036; what of it RDNA1 has: gfx1010 to gfx1013. Waves of 32 lanes.
    Gfx10,
    /// RDNA3: gfx1100 to gfx1103, gfx1150 to gfx1153. Waves of 32 lanes.
    Gfx11,
    /// RDNA4: gfx1200, gfx1201. Waves of 32 lanes.
    Gfx12,
    /// Vega and CDNA1: gfx900 to gfx90c but for gfx90a, whose encodings hold theirs. Waves of 64 lanes.
    Gfx9,
    /// CDNA2: gfx90a. Waves of 64 lanes.
    Gfx90a,
    /// CDNA3: gfx940 to gfx942. Waves of 64 lanes.
    Gfx940,
}

/// What is decoded, by architecture.
const TARGETS: &[(Arch, &[&str])] = &[
    (Arch::Gfx9, &["gfx900", "gfx902", "gfx904", "gfx906", "gfx908", "gfx909", "gfx90c", "gfx9-generic"]),
    (Arch::Gfx90a, &["gfx90a"]),
    (Arch::Gfx940, &["gfx940", "gfx941", "gfx942", "gfx9-4-generic"]),
    (Arch::Gfx10, &["gfx1010", "gfx1011", "gfx1012", "gfx1013", "gfx10-1-generic"]),
    (
        Arch::Gfx10,
        &["gfx1030", "gfx1031", "gfx1032", "gfx1033", "gfx1034", "gfx1035", "gfx1036", "gfx10-3-generic"],
    ),
    (Arch::Gfx11, &["gfx1100", "gfx1101", "gfx1102", "gfx1103", "gfx1150", "gfx1151", "gfx1152", "gfx1153"]),
    (Arch::Gfx11, &["gfx11-generic"]),
    (Arch::Gfx12, &["gfx1200", "gfx1201", "gfx12-generic"]),
];

impl Arch {
    /// Every architecture.
    pub const ALL: [Self; 6] =
        [Self::Gfx10, Self::Gfx11, Self::Gfx12, Self::Gfx9, Self::Gfx90a, Self::Gfx940];

    /// The architecture of a target such as `gfx1100` or `gfx11-generic`; `None` for one that is not decoded here.
    #[must_use]
    pub fn from_target(target: &str) -> Option<Self> {
        let (arch, _) = TARGETS.iter().find(|(_, targets)| targets.contains(&target))?;
        Some(*arch)
    }

    /// The targets that a card can be; of the rest, which are generic, it takes objects.
    pub fn cards() -> impl Iterator<Item = &'static str> {
        TARGETS
            .iter()
            .flat_map(|(_, targets)| *targets)
            .copied()
            .filter(|target| !target.ends_with("-generic"))
    }

    /// Lanes in a wave, as decoded and printed here.
    #[must_use]
    pub const fn lanes(self) -> u8 {
        match self {
            Self::Gfx10 | Self::Gfx11 | Self::Gfx12 => 32,
            Self::Gfx9 | Self::Gfx90a | Self::Gfx940 => 64,
        }
    }

    /// Whether a wave starts with its work-items' ids packed into one register.
    pub(crate) const fn packs_item_ids(self) -> bool {
        !matches!(self, Self::Gfx9 | Self::Gfx10)
    }

    /// Whether a wave starts with its group's ids behind the user registers; else they are in trap handlers' registers.
    pub(crate) const fn has_group_ids_in_scalars(self) -> bool {
        !matches!(self, Self::Gfx12)
    }

    /// Whether programs find their scratch by a descriptor and an offset that they start with; else hardware knows where it is.
    pub(crate) const fn is_told_its_scratch(self) -> bool {
        matches!(self, Self::Gfx9 | Self::Gfx10 | Self::Gfx90a)
    }

    /// Whether it is of the generation before RDNA.
    pub(crate) const fn is_gfx9(self) -> bool {
        matches!(self, Self::Gfx9 | Self::Gfx90a | Self::Gfx940)
    }

    /// Whether a kernel's vector registers are allocated together with its accumulation registers, which lie behind them.
    pub(crate) const fn joins_accumulation(self) -> bool {
        matches!(self, Self::Gfx90a | Self::Gfx940)
    }

    /// Vector registers in the unit of a descriptor's count (LLVM's AMDGPU usage guide, "granulated_workitem_vgpr_count").
    pub(crate) const fn vector_granule(self) -> usize {
        if matches!(self, Self::Gfx9) { 4 } else { 8 }
    }
}

/// What a target lacks of the operations that its architecture's table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lacks {
    Nothing,
    /// What RDNA2 added to RDNA1, but for dot products, and where RDNA1 has another operation in its place.
    Rdna2,
    /// The same, and dot products.
    Rdna2AndProducts,
    /// Float arithmetic on scalar registers, which gfx1150 added.
    ScalarFloats,
    /// What CDNA2 added to CDNA1.
    Cdna2,
    /// The same, and matrices, which CDNA1 added to Vega 20.
    Matrices,
    /// The same, and products of parts of registers, which Vega 20 added.
    Products,
    /// The same, and fused operations on floats of two widths, in whose place Vega 10 has unfused ones.
    MixedFloats,
}

impl Lacks {
    pub(crate) fn of(target: &str) -> Self {
        match target {
            "gfx1011" | "gfx1012" => Self::Rdna2,
            "gfx1010" | "gfx1013" | "gfx10-1-generic" => Self::Rdna2AndProducts,
            "gfx1100" | "gfx1101" | "gfx1102" | "gfx1103" | "gfx11-generic" => Self::ScalarFloats,
            "gfx908" => Self::Cdna2,
            "gfx906" => Self::Matrices,
            "gfx904" => Self::Products,
            "gfx900" | "gfx902" | "gfx909" | "gfx90c" | "gfx9-generic" => Self::MixedFloats,
            _ => Self::Nothing,
        }
    }
}

/// Families of encodings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// Scalar, one source.
    Sop1,
    /// Scalar, two sources.
    Sop2,
    /// Scalar comparison.
    Sopc,
    /// Scalar with a 16-bit immediate.
    Sopk,
    /// Program control.
    Sopp,
    /// Scalar memory.
    Smem,
    /// Vector, one source.
    Vop1,
    /// Vector, two sources.
    Vop2,
    /// Vector comparison.
    Vopc,
    /// Vector, up to three sources with modifiers.
    Vop3,
    /// Vector on packed halves, and matrix operations.
    Vop3p,
    /// Two vector operations at once.
    Vopd,
    /// LDS and global data share.
    Ds,
    /// Parameter and direct loads from LDS.
    LdsDirect,
    /// Buffers.
    Mubuf,
    /// Buffers with a format.
    Mtbuf,
    /// Flat address space.
    Flat,
    /// Global memory.
    Global,
    /// Scratch memory.
    Scratch,
    /// Images. Refused: graphics only.
    Image,
    /// Export to fixed-function hardware. Refused: graphics only.
    Export,
    /// Interpolation of attributes. Refused: graphics only.
    Interpolation,
}

/// Whose spelling is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// LLVM 19: halves of registers on gfx11 have no names.
    Llvm19,
    /// LLVM 22: halves of registers on gfx11 are `.l` and `.h`.
    #[default]
    Llvm22,
}
