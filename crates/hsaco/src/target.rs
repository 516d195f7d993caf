use std::fmt;
use std::str::FromStr;

use crate::HsacoError;

/// What a code object runs on, or what a card is: a processor and, where it has them, two settings.
///
/// Written `gfx90a:sramecc+:xnack-`, as HIP's `gcnArchName` and clang's target IDs are; on NVIDIA's cards it is the compute
/// capability, `sm_90`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetId {
    /// `gfx1100`, or a family: `gfx11-generic`; `sm_90`.
    pub processor: String,
    /// Memory error correction: on, off, or any.
    pub sramecc: Option<bool>,
    /// Retry of page faults: on, off, or any.
    pub xnack: Option<bool>,
}

impl TargetId {
    /// Whether it is a card of NVIDIA's.
    pub fn is_nvidia(&self) -> bool {
        self.compute_capability().is_some()
    }

    /// 90 for `sm_90`.
    fn compute_capability(&self) -> Option<u32> {
        self.processor.strip_prefix("sm_")?.parse().ok()
    }

    /// Whether an image for `self` runs on `card`: same processor or its family, and no setting that the card
    /// does not have. PTX runs on its own compute capability and all later ones.
    pub fn runs_on(&self, card: &TargetId) -> bool {
        if let (Some(image), Some(card)) = (self.compute_capability(), card.compute_capability()) {
            return image <= card;
        }
        let processor = self.processor == card.processor
            || generic_family(&card.processor).is_some_and(|family| self.processor == family);
        let fits = |image: Option<bool>, card: Option<bool>| image.is_none() || image == card;
        processor && fits(self.sramecc, card.sramecc) && fits(self.xnack, card.xnack)
    }

    /// Of two that run on a card, the greater fits closer: one processor before a family, then more settings; the later
    /// compute capability.
    pub(crate) fn precedence(&self) -> (bool, usize) {
        if let Some(capability) = self.compute_capability() {
            return (true, capability as usize);
        }
        let settings = [self.sramecc, self.xnack];
        (!self.processor.ends_with("-generic"), settings.iter().flatten().count())
    }
}

impl FromStr for TargetId {
    type Err = HsacoError;

    fn from_str(text: &str) -> Result<TargetId, HsacoError> {
        let bad = || HsacoError::BadTarget { found: text.to_owned() };
        let mut parts = text.split(':');
        let processor = parts.next().unwrap_or_default();
        let named = processor.strip_prefix("gfx").is_some_and(|rest| {
            !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        });
        let mut target = TargetId { processor: processor.to_owned(), sramecc: None, xnack: None };
        let is_capability = target.is_nvidia() && text == processor;
        if !(named || is_capability) {
            return Err(bad());
        }
        for part in parts {
            match part {
                "sramecc+" => target.sramecc = Some(true),
                "sramecc-" => target.sramecc = Some(false),
                "xnack+" => target.xnack = Some(true),
                "xnack-" => target.xnack = Some(false),
                _ => return Err(bad()),
            }
        }
        Ok(target)
    }
}

impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = |on: bool| if on { '+' } else { '-' };
        f.write_str(&self.processor)?;
        if let Some(on) = self.sramecc {
            write!(f, ":sramecc{}", sign(on))?;
        }
        if let Some(on) = self.xnack {
            write!(f, ":xnack{}", sign(on))?;
        }
        Ok(())
    }
}

/// The processor behind the `EF_AMDGPU_MACH` byte of an ELF header (LLVM's AMDGPU usage guide).
pub(crate) fn processor_of_mach(mach: u32) -> Option<&'static str> {
    PROCESSORS.iter().find(|(number, ..)| *number == mach).map(|(_, name, _)| *name)
}

/// The generic target whose code objects run on `processor`, if there is one (LLVM's AMDGPU usage guide).
pub fn generic_family(processor: &str) -> Option<&'static str> {
    PROCESSORS.iter().find(|(_, name, _)| *name == processor).and_then(|(.., family)| *family)
}

/// Lanes of a wave as the kernels are compiled: 64 on gfx9, 32 from gfx10 on and on NVIDIA's cards; `None` for others.
pub fn wavefront_size(processor: &str) -> Option<u32> {
    if processor.starts_with("sm_") {
        return Some(32);
    }
    let version = processor.strip_prefix("gfx")?;
    match version.split_once('-').map_or(version.len(), |(major, _)| major.len() + 2) {
        3 if version.starts_with('9') => Some(64),
        4 if ["10", "11", "12"].iter().any(|major| version.starts_with(major)) => Some(32),
        _ => None,
    }
}

/// The most vector registers of a wave: gfx90a and gfx940 count those for matrices with them.
pub(crate) fn most_vgprs(processor: &str) -> u32 {
    let unified = processor == "gfx90a" || processor.starts_with("gfx94") || processor.starts_with("gfx95");
    if unified || processor == "gfx9-4-generic" { 512 } else { 256 }
}

const GFX9: Option<&str> = Some("gfx9-generic");
const GFX9_4: Option<&str> = Some("gfx9-4-generic");
const GFX10_1: Option<&str> = Some("gfx10-1-generic");
const GFX10_3: Option<&str> = Some("gfx10-3-generic");
const GFX11: Option<&str> = Some("gfx11-generic");
const GFX12: Option<&str> = Some("gfx12-generic");

/// `EF_AMDGPU_MACH`, processor, family.
const PROCESSORS: &[(u32, &str, Option<&str>)] = &[
    (0x2c, "gfx900", GFX9),
    (0x2d, "gfx902", GFX9),
    (0x2e, "gfx904", GFX9),
    (0x2f, "gfx906", GFX9),
    (0x30, "gfx908", None),
    (0x31, "gfx909", GFX9),
    (0x32, "gfx90c", GFX9),
    (0x3f, "gfx90a", None),
    (0x40, "gfx940", GFX9_4),
    (0x4b, "gfx941", GFX9_4),
    (0x4c, "gfx942", GFX9_4),
    (0x4f, "gfx950", GFX9_4),
    (0x33, "gfx1010", GFX10_1),
    (0x34, "gfx1011", GFX10_1),
    (0x35, "gfx1012", GFX10_1),
    (0x42, "gfx1013", GFX10_1),
    (0x36, "gfx1030", GFX10_3),
    (0x37, "gfx1031", GFX10_3),
    (0x38, "gfx1032", GFX10_3),
    (0x39, "gfx1033", GFX10_3),
    (0x3e, "gfx1034", GFX10_3),
    (0x3d, "gfx1035", GFX10_3),
    (0x45, "gfx1036", GFX10_3),
    (0x41, "gfx1100", GFX11),
    (0x46, "gfx1101", GFX11),
    (0x47, "gfx1102", GFX11),
    (0x44, "gfx1103", GFX11),
    (0x43, "gfx1150", GFX11),
    (0x4a, "gfx1151", GFX11),
    (0x55, "gfx1152", GFX11),
    (0x58, "gfx1153", GFX11),
    (0x48, "gfx1200", GFX12),
    (0x4e, "gfx1201", GFX12),
    (0x49, "gfx1250", None),
    (0x5a, "gfx1251", None),
    (0x51, "gfx9-generic", None),
    (0x5f, "gfx9-4-generic", None),
    (0x52, "gfx10-1-generic", None),
    (0x53, "gfx10-3-generic", None),
    (0x54, "gfx11-generic", None),
    (0x59, "gfx12-generic", None),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> TargetId {
        text.parse().unwrap()
    }

    #[test]
    fn targets_are_read_and_written() {
        for text in ["gfx1100", "gfx11-generic", "gfx90a:sramecc+:xnack-", "gfx906:xnack+", "sm_90"] {
            assert_eq!(target(text).to_string(), text);
        }
        for bad in [
            "",
            "gfx",
            "sm90",
            "sm_",
            "sm_90a",
            "sm_90:xnack+",
            "gfx90a:",
            "gfx90a:xnack",
            "gfx90a:fast+",
            "gfx 90a",
            "gfx90a\n",
        ] {
            assert!(matches!(bad.parse::<TargetId>(), Err(HsacoError::BadTarget { .. })), "{bad:?}");
        }
    }

    #[test]
    fn an_image_runs_on_its_processor_and_its_family() {
        assert!(target("gfx1100").runs_on(&target("gfx1100")));
        assert!(!target("gfx1100").runs_on(&target("gfx1101")));
        assert!(target("gfx11-generic").runs_on(&target("gfx1103")));
        assert!(!target("gfx11-generic").runs_on(&target("gfx1201")));
        assert!(!target("gfx9-generic").runs_on(&target("gfx90a")), "gfx90a is in no family");
        assert!(target("gfx9-4-generic").runs_on(&target("gfx942:sramecc+:xnack-")));
    }

    #[test]
    fn ptx_runs_on_later_cards() {
        for (card, runs) in
            [("sm_75", false), ("sm_80", true), ("sm_90", true), ("sm_120", true), ("gfx1100", false)]
        {
            assert_eq!(target("sm_80").runs_on(&target(card)), runs, "{card}");
        }
        assert!(!target("gfx1100").runs_on(&target("sm_120")));
        assert!(target("sm_100").precedence() > target("sm_90").precedence());
        assert!(target("sm_90").is_nvidia() && !target("gfx90a").is_nvidia());
    }

    #[test]
    fn settings_must_be_the_cards() {
        let card = target("gfx90a:sramecc+:xnack-");
        assert!(target("gfx90a").runs_on(&card));
        assert!(target("gfx90a:xnack-").runs_on(&card));
        assert!(!target("gfx90a:xnack+").runs_on(&card));
        assert!(!target("gfx90a:sramecc-").runs_on(&card));
        assert!(!target("gfx90a:xnack-").runs_on(&target("gfx90a")), "the card does not say");
    }

    #[test]
    fn waves_have_64_lanes_on_gfx9_and_32_later() {
        let size = |processor| wavefront_size(processor);
        assert_eq!(
            [size("gfx906"), size("gfx90a"), size("gfx9-generic"), size("gfx9-4-generic")],
            [Some(64); 4]
        );
        assert_eq!(
            [size("gfx1030"), size("gfx1201"), size("gfx10-3-generic"), size("gfx12-generic")],
            [Some(32); 4]
        );
        assert_eq!([size("sm_80"), size("sm_120")], [Some(32); 2]);
        assert_eq!([size("gfx803"), size("gfx7"), size("gfx1300")], [None; 3]);
    }
}
