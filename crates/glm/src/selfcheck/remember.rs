//! A card is checked once for each build of the kernels.

use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::Result;
use device_mem::{Device, HipDevice};
use etcetera::BaseStrategy;

use super::{failures, outcomes};
use crate::doctor::IMAGES;

/// Checks a card that this build's kernels have not been checked on, and remembers that they passed, in the user's cache
/// folder. Where nothing can be remembered, it is checked each time.
///
/// # Errors
/// [`WrongKernels`](super::WrongKernels), or why a kernel cannot run at all.
pub(crate) fn before_first_use(device: &Device) -> Result<()> {
    let Device::Hip(hip) = device else {
        return Ok(());
    };
    let record = etcetera::choose_base_strategy().ok().map(|folders| Record::of(&folders.cache_dir(), hip));
    if record.as_ref().is_some_and(Record::is_there) {
        return Ok(());
    }
    tracing::info!(%device, "checking its kernels before they are first used");
    if let Some(wrong) = failures(&outcomes(device)?) {
        return Err(wrong.into());
    }
    if let Some(record) = record
        && let Err(error) = record.write()
    {
        tracing::info!(%error, path = %record.path.display(), "the check will be made again");
    }
    Ok(())
}

/// That the images of this program passed on a card.
struct Record {
    /// One file for each kind of card.
    path: PathBuf,
    /// The program's version and its images.
    text: String,
}

impl Record {
    fn of(cache: &Path, hip: &HipDevice) -> Record {
        let properties = hip.properties();
        let card = format!("{} {}", properties.name, properties.arch);
        let file: String =
            card.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect();
        let images = IMAGES.iter().flat_map(|(_, sets)| *sets).flat_map(|set| set.images);
        let images: String = images.map(|image| format!("{}\n", image.sha256)).collect();
        let version = env!("CARGO_PKG_VERSION");
        let text = format!("passed glm selfcheck on {card}: glm {version}, with the images\n{images}");
        Record { path: cache.join("glm").join("selfcheck").join(file), text }
    }

    fn is_there(&self) -> bool {
        fs::read_to_string(&self.path).is_ok_and(|text| text == self.text)
    }

    fn write(&self) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&self.path, &self.text)
    }
}
