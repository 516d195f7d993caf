//! Launches of the stand-in that are silently wrong.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Memory, host_pointer};

/// One bit of a word: the top bit of the exponent of an f32, and of the second of two f16 or bf16, so that no bound hides it.
pub const SPOILED_BIT: u32 = 1 << 30;

struct Plan {
    /// Launches until the one that is spoiled.
    left: usize,
    /// Which of the words that it changes.
    choice: usize,
    /// How many words it changed, once it has run.
    changed: Option<usize>,
}

static PLAN: Mutex<Option<Plan>> = Mutex::new(None);

fn plan() -> MutexGuard<'static, Option<Plan>> {
    PLAN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Spoils launch `launch` of [`host_hip`](super::host_hip) from now on, the first being 1: in one of the 32-bit words that the
/// kernel changes, word `choice` of them counted round, one bit is wrong afterwards. There is one plan in a process.
pub fn spoil_launch(launch: usize, choice: usize) {
    *plan() = launch.checked_sub(1).map(|left| Plan { left, choice, changed: None });
}

/// How many words the spoiled launch has changed, one of which is wrong; `None` before it has run. It forgets the plan.
pub fn spoiled() -> Option<usize> {
    plan().take()?.changed
}

/// What a launch that is going to be spoiled finds in memory.
pub(super) struct Before(Vec<(usize, Vec<u32>)>);

/// Called before each launch with the memory that it may write.
pub(super) fn before<'m>(memory: impl Iterator<Item = &'m Memory>) -> Option<Before> {
    let mut plan = plan();
    let Plan { left, changed: None, .. } = plan.as_mut()? else { return None };
    match left.checked_sub(1) {
        Some(fewer) => {
            *left = fewer;
            None
        }
        None => Some(Before(
            memory.map(|memory| (memory.address(), words(memory.address(), memory.bytes))).collect(),
        )),
    }
}

/// Called after the launch.
pub(super) fn after(Before(memory): Before) {
    let changed: Vec<usize> = memory
        .iter()
        .flat_map(|(address, found)| {
            let now = words(*address, found.len() * size_of::<u32>());
            let differing = found.iter().zip(now).enumerate().filter(|(_, (found, now))| *found != now);
            Vec::from_iter(differing.map(|(index, _)| address + index * size_of::<u32>()))
        })
        .collect();
    let mut plan = plan();
    let Some(plan) = plan.as_mut() else { return };
    plan.changed = Some(changed.len());
    let chosen = plan.choice.checked_rem(changed.len()).and_then(|index| changed.get(index));
    if let Some(&address) = chosen {
        let word = host_pointer(address).cast::<u32>();
        // SAFETY: the word lies inside an allocation that a launch was given, and launches run one at a time.
        let value = unsafe { word.read() };
        // SAFETY: as above.
        unsafe { word.write(value ^ SPOILED_BIT) };
    }
}

/// The whole words of an allocation.
fn words(address: usize, bytes: usize) -> Vec<u32> {
    // SAFETY: the allocation is live and initialised, and aligned for words of eight bytes.
    unsafe { std::slice::from_raw_parts(host_pointer(address).cast::<u32>(), bytes / size_of::<u32>()) }
        .to_vec()
}
