//! The cards of this process, and the one that each thread uses.

use std::{
    cell::Cell,
    ffi::c_int,
    num::NonZero,
    sync::{LazyLock, Mutex, OnceLock, PoisonError, RwLock},
    thread,
};

use hip_ffi::sys::hipError_t;

use crate::{
    Dispatch, Machine, Options, OptionsError, Report,
    hip::{Status, errors},
    memory::Allocation,
};

/// What [`configure`] asked for.
static CONFIGURED: OnceLock<Options> = OnceLock::new();

/// What of the environment cannot be read: then no card can be used.
static PROBLEM: OnceLock<OptionsError> = OnceLock::new();

/// The cards, by ordinal. They are never taken away.
static CARDS: LazyLock<RwLock<Vec<&'static Card>>> = LazyLock::new(|| RwLock::new(first_cards()));

/// For [`take_launches`].
static LAUNCHES: Mutex<Vec<Launch>> = Mutex::new(Vec::new());

thread_local! {
    /// The ordinal of the card that this thread uses.
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

/// Sets how the first card of this process behaves, in place of the environment.
///
/// # Errors
///
/// [`ConfigureError`] when a call has made the card already, or it was set before.
pub fn configure(options: Options) -> Result<(), ConfigureError> {
    CONFIGURED.set(options).map_err(|_| ConfigureError)
}

/// How the first card of this process behaves, which is made if it was not.
#[must_use]
pub fn configuration() -> &'static Options {
    all().first().map_or_else(|| CONFIGURED.get_or_init(Options::default), |card| card.machine.options())
}

/// The ordinal of this process's card of a target, `gfx942`: of the first one, or of one that is added behind the others. It
/// behaves as the first card but for its target. A target that is not executed gives a card that loads nothing.
#[must_use]
pub fn card(target: &str) -> u32 {
    let mut cards = CARDS.write().unwrap_or_else(PoisonError::into_inner);
    let found = cards.iter().position(|card| card.target() == target);
    let ordinal = found.unwrap_or_else(|| {
        let like = cards.first().map_or_else(Options::default, |card| card.machine.options().clone());
        let ordinal = cards.len();
        cards.push(Card::leak(ordinal, Options { target: target.to_owned(), ..like }));
        ordinal
    });
    u32::try_from(ordinal).unwrap_or(u32::MAX)
}

/// A launch by HIP's functions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Launch {
    /// The card's target, `gfx1100`.
    pub target: String,
    /// Entry symbol.
    pub kernel: String,
    /// Its shape.
    pub dispatch: Dispatch,
    /// What it did.
    pub report: Report,
}

/// Takes the launches since the last call, in order, of all cards of this process. They are kept only where
/// [`Options::counts`] is set, and only those that came to a good end.
#[must_use]
pub fn take_launches() -> Vec<Launch> {
    std::mem::take(&mut *LAUNCHES.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The first card of this process is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the emulated card of this process is set: configure it once, before the first HIP call")]
pub struct ConfigureError;

/// One card.
pub(super) struct Card {
    pub(super) machine: Machine,
    /// Its place among the cards.
    pub(super) ordinal: usize,
    /// Work-groups that run at the same time.
    pub(super) units: c_int,
}

impl Card {
    fn leak(ordinal: usize, options: Options) -> &'static Self {
        let threads = match options.threads {
            0 => thread::available_parallelism().map_or(1, NonZero::get),
            threads => threads,
        };
        let units = c_int::try_from(threads).unwrap_or(c_int::MAX);
        // A card is there as long as the process.
        Box::leak(Box::new(Self { machine: Machine::new(options), ordinal, units }))
    }

    /// Its target, `gfx1100` or `gfx90a:sramecc+:xnack-`.
    pub(super) fn target(&self) -> &str {
        &self.machine.options().target
    }

    /// Its target without the settings: `gfx90a`.
    pub(super) fn processor(&self) -> &str {
        self.target().split(':').next().unwrap_or_default()
    }

    /// Keeps what a launch did, where it was counted.
    pub(super) fn launched(&self, kernel: &str, dispatch: Dispatch, report: Report) {
        if report.counters.is_some() {
            let launch =
                Launch { target: self.target().to_owned(), kernel: kernel.to_owned(), dispatch, report };
            LAUNCHES.lock().unwrap_or_else(PoisonError::into_inner).push(launch);
        }
    }
}

/// Those that [`configure`] or the environment asks for.
fn first_cards() -> Vec<&'static Card> {
    let options = match CONFIGURED.get() {
        Some(options) => vec![options.clone()],
        None => Options::all_from_env().unwrap_or_else(|problem| {
            let _ = PROBLEM.set(problem);
            vec![Options::default()]
        }),
    };
    if let Some(first) = options.first() {
        // What is made cannot be configured any more.
        let _ = CONFIGURED.set(first.clone());
    }
    options.into_iter().enumerate().map(|(ordinal, options)| Card::leak(ordinal, options)).collect()
}

/// All cards, by ordinal.
pub(super) fn all() -> Vec<&'static Card> {
    CARDS.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Fails when the environment asks for what cannot be had.
pub(super) fn usable() -> Status {
    LazyLock::force(&CARDS);
    match PROBLEM.get() {
        Some(problem) => Err(errors::tell(problem)),
        None => Ok(()),
    }
}

/// The card of an ordinal.
pub(super) fn at(ordinal: c_int) -> Result<&'static Card, hipError_t> {
    usable()?;
    let cards = all();
    let card = usize::try_from(ordinal).ok().and_then(|ordinal| cards.get(ordinal).copied());
    card.ok_or(hipError_t::hipErrorInvalidDevice)
}

/// The card that this thread uses.
pub(super) fn current() -> Result<&'static Card, hipError_t> {
    at(current_ordinal())
}

/// The ordinal of the card that this thread uses.
pub(super) fn current_ordinal() -> c_int {
    c_int::try_from(CURRENT.get()).unwrap_or(c_int::MAX)
}

/// Lets this thread use a card.
pub(super) fn select(card: &Card) {
    CURRENT.set(card.ordinal);
}

/// The card in whose memory an address lies, and the allocation.
pub(super) fn holding(address: u64) -> Option<(&'static Card, Allocation)> {
    all().into_iter().find_map(|card| Some((card, card.machine.memory().find(address)?)))
}
