//! What `--device` asks for, and which errors are about a device.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use attention::AttentionError;
use device_mem::{Device, DeviceChoice, MemError, Opened};
use kernels_nn::NnError;
use kernels_rope::RopeError;
use model_glm::GlmError;

use crate::selfcheck::WrongKernels;

/// A device to run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// What `device-mem` knows.
    Of(DeviceChoice),
    /// An emulated card: HIP's interface and the kernels' images, without a GPU. Of a target, or of the one that the
    /// environment names.
    Emulator(Option<&'static str>),
}

impl Asked {
    /// Opens the device. [`DeviceChoice::Auto`] never takes the emulator, which is slower than the CPU.
    pub(crate) fn open(self) -> Result<Opened, MemError> {
        match self {
            Asked::Of(choice) => Device::open(choice),
            Asked::Emulator(target) => {
                let ordinal = target.map_or(0, hip_emu::card);
                Ok(Opened { device: Device::from_api(hip_emu::api(), ordinal)?, fallback: None })
            }
        }
    }

    /// Whether it is an emulated card.
    pub(crate) fn is_emulated(self) -> bool {
        matches!(self, Asked::Emulator(_))
    }

    /// Whether the CPU may take over, with a warning.
    pub(crate) fn is_auto(self) -> bool {
        self == Asked::Of(DeviceChoice::Auto)
    }
}

impl FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> Result<Asked, String> {
        match text.split_once(':') {
            None if text == "emu" => Ok(Asked::Emulator(None)),
            Some(("emu", target)) => {
                let known = hip_emu::Arch::cards().find(|known| *known == target);
                known.map(|known| Asked::Emulator(Some(known))).ok_or_else(|| {
                    let cards: Vec<_> = hip_emu::Arch::cards().collect();
                    format!("expected emu:TARGET with one of {}, found {target:?}", cards.join(", "))
                })
            }
            _ => text.parse().map(Asked::Of).map_err(|_| {
                format!("expected auto, cpu, emu, emu:TARGET, hip, hip:N, cuda or cuda:N, found {text:?}")
            }),
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Asked::Of(choice) => choice.fmt(f),
            Asked::Emulator(None) => f.write_str("emu"),
            Asked::Emulator(Some(target)) => write!(f, "emu:{target}"),
        }
    }
}

/// Whether an error means that the device cannot be had or cannot run the model, rather than that the model is wrong.
pub(crate) fn is_to_blame(error: &(dyn Error + 'static)) -> bool {
    let causes = std::iter::successors(Some(error), |cause: &&(dyn Error + 'static)| (*cause).source());
    causes.into_iter().any(|cause| {
        let too_wide = matches!(cause.downcast_ref(), Some(AttentionError::HeadDim { .. }));
        let wrong = cause.is::<WrongKernels>();
        let too_large = matches!(cause.downcast_ref(), Some(GlmError::DeviceMemory { .. }));
        too_wide || wrong || too_large || memory_error(cause).is_some_and(|error| error.class().is_some())
    })
}

/// The error of memory or a device that `cause` is, also where an operation passes it on as its own.
pub(crate) fn memory_error<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a MemError> {
    let rope = |error: &'a RopeError| match error {
        RopeError::Mem(error) => Some(error),
        _ => None,
    };
    let attention = |error: &'a AttentionError| match error {
        AttentionError::Mem(error) => Some(error),
        AttentionError::Rope(error) => rope(error),
        _ => None,
    };
    let nn = |error: &'a NnError| match error {
        NnError::Mem(error) => Some(error),
        _ => None,
    };
    let passed_on = cause.downcast_ref().and_then(rope).or_else(|| cause.downcast_ref().and_then(attention));
    cause.downcast_ref().or(passed_on).or_else(|| cause.downcast_ref().and_then(nn))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_read_and_print() {
        for text in ["auto", "cpu", "emu", "emu:gfx942", "hip:0", "hip:3", "cuda:0"] {
            assert_eq!(text.parse::<Asked>().map(|asked| asked.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "gpu", "hip:"] {
            let error = text.parse::<Asked>().unwrap_err();
            assert!(
                error.contains("expected auto, cpu, emu, emu:TARGET, hip, hip:N, cuda or cuda:N"),
                "{text}: {error}"
            );
        }
        let error = "emu:gfx11-generic".parse::<Asked>().unwrap_err();
        assert!(
            error.contains("expected emu:TARGET with one of gfx900, ") && error.contains("gfx1201"),
            "{error}"
        );
    }
}
