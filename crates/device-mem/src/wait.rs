//! Waits that end: by polling, until a deadline, or when the device is lost elsewhere.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hip_ffi::{ErrorClass, HipApi, HipError, result};

use crate::HipDevice;

/// Asked without a pause for so long: what is nearly done is noticed at once.
const SPIN: Duration = Duration::from_micros(200);
/// The shortest and the longest pause between two questions.
const PAUSES: [Duration; 2] = [Duration::from_micros(20), Duration::from_millis(1)];
/// After the spin a pause is this part of what was waited so far.
const PART: u32 = 128;

/// How long waits of a device may last.
#[derive(Debug)]
pub(crate) struct Deadline(AtomicU64);

impl Default for Deadline {
    fn default() -> Deadline {
        Deadline::of(HipDevice::DEFAULT_DEADLINE)
    }
}

impl Deadline {
    fn of(deadline: Duration) -> Deadline {
        Deadline(AtomicU64::new(nanoseconds(deadline)))
    }

    fn get(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl HipDevice {
    /// How long a wait may last where nothing else is set: longer than any pass of a model should take, and an end to those that
    /// never would.
    pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(120);

    /// How long a wait for the device may last. A device that is not ready by then counts as lost.
    pub fn deadline(&self) -> Duration {
        self.deadline.get()
    }

    /// Sets [`HipDevice::deadline`] for waits from now on.
    pub fn set_deadline(&self, deadline: Duration) {
        self.deadline.0.store(nanoseconds(deadline), Ordering::Relaxed);
    }

    /// Waits until the device has done what it was given, so that the host sees the results.
    pub(crate) fn wait(&self, api: &HipApi) -> Result<(), HipError> {
        self.drain(api)?;
        // The work is done, so this does not wait: it is the call for which HIP promises that the host sees results.
        // SAFETY: the stream lives as long as the device.
        unsafe { result::stream_synchronize(api, self.stream) }?;
        self.progress.is_done();
        Ok(())
    }

    /// Waits until the stream is empty: before calls that would wait for it themselves, without an end.
    pub(crate) fn drain(&self, api: &HipApi) -> Result<(), HipError> {
        // SAFETY: the stream lives as long as the device.
        if unsafe { result::stream_query(api, self.stream) }? {
            return Ok(());
        }
        let start = Instant::now();
        loop {
            // SAFETY: as above.
            if unsafe { result::stream_query(api, self.stream) }? {
                return Ok(());
            }
            // Another thread may have met the end of the device.
            if let Some(cause) = self.breaker.cause() {
                return Err(cause);
            }
            let waited = start.elapsed();
            if waited >= self.deadline() {
                return Err(HipError::overdue(api, waited));
            }
            pause(waited);
        }
    }

    /// Releases something that the stream's work may use, once that is done. It is released too when the wait tells an error
    /// of earlier work that leaves the device in use.
    pub(crate) fn release(
        &self,
        api: &HipApi,
        release: impl FnOnce(&HipApi) -> Result<(), HipError>,
    ) -> Result<(), HipError> {
        match self.drain(api) {
            Err(error) if error.class() == ErrorClass::Lost => Err(error),
            drained => {
                let released = release(api);
                drained.and(released)
            }
        }
    }
}

fn pause(waited: Duration) {
    if waited < SPIN {
        thread::yield_now();
    } else {
        thread::sleep((waited / PART).clamp(PAUSES[0], PAUSES[1]));
    }
}
