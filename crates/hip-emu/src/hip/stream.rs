//! Streams and events: every operation is done when its call returns, unless its stream records it.

use std::{
    ffi::{c_int, c_uint, c_void},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use hip_ffi::sys::{hipError_t, hipStream_t};

use crate::hip::{
    Status,
    cards::{self, Card},
    graph::{Recording, Work},
    handles::Handles,
    put,
};

/// The highest of HIP's own stream handles: null, `hipStreamLegacy`, `hipStreamPerThread`.
const OWN_STREAMS: usize = 2;
/// `hipStreamNonBlocking`.
const NON_BLOCKING: c_uint = 1;
/// `hipEventDisableTiming`.
const DISABLE_TIMING: c_uint = 2;

static STREAMS: Handles<Stream> = Handles::new();
static EVENTS: Handles<Event> = Handles::new();

/// `hipEvent_t`.
type EventHandle = *mut c_void;

pub(super) struct Stream {
    card: &'static Card,
    flags: c_uint,
    recording: Mutex<Option<Recording>>,
}

impl Stream {
    /// What it records, if it does.
    pub(super) fn recording(&self) -> MutexGuard<'_, Option<Recording>> {
        self.recording.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it waits for the null stream, and the null stream for it.
    fn is_blocking(&self) -> bool {
        self.flags & NON_BLOCKING == 0
    }
}

struct Event {
    timed: bool,
    recorded: Mutex<Option<Instant>>,
}

impl Event {
    fn recorded(&self) -> Result<Instant, hipError_t> {
        let recorded = *self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.filter(|_| self.timed).ok_or(hipError_t::hipErrorInvalidHandle)
    }
}

/// The stream of a handle; `None` for HIP's own.
pub(super) fn find(stream: hipStream_t) -> Result<Option<Arc<Stream>>, hipError_t> {
    if stream.addr() <= OWN_STREAMS { Ok(None) } else { STREAMS.get(stream).map(Some) }
}

/// Gives work to a stream, which does it at once or records it.
pub(super) fn submit(on: hipStream_t, work: impl Fn() -> Status + Send + Sync + 'static) -> Status {
    submit_recorded(on, &(Arc::new(work) as Work))
}

/// As [`submit`], for work that was recorded before.
pub(super) fn submit_recorded(on: hipStream_t, work: &Work) -> Status {
    match find(on)? {
        Some(stream) => {
            if let Some(recording) = &mut *stream.recording() {
                return recording.add(work.clone());
            }
        }
        None => expect_no_implicit_wait()?,
    }
    work()
}

/// Fails unless a stream is a card's; HIP's own are the thread's card's.
pub(super) fn expect_of(on: hipStream_t, card: &Card) -> Status {
    let of = match find(on)? {
        Some(stream) => stream.card,
        None => cards::current()?,
    };
    if of.ordinal == card.ordinal { Ok(()) } else { Err(hipError_t::hipErrorInvalidHandle) }
}

/// Fails unless a stream can be used for what is not recorded.
pub(super) fn expect_idle(on: hipStream_t) -> Status {
    match find(on)?.as_ref().map(|stream| stream.recording()).as_deref_mut() {
        Some(Some(recording)) => recording.refuse(),
        _ => Ok(()),
    }
}

/// Fails while a stream records in a mode that forbids this thread what HIP does at once.
pub(super) fn expect_no_recording() -> Status {
    let mut status = Ok(());
    for stream in STREAMS.values() {
        if let Some(recording) =
            stream.recording().as_mut().filter(|recording| recording.forbids_this_thread())
        {
            status = recording.refuse();
        }
    }
    status
}

/// Fails where the null stream would have to wait for a stream that records.
fn expect_no_implicit_wait() -> Status {
    let mut status = Ok(());
    for stream in STREAMS.values().into_iter().filter(|stream| stream.is_blocking()) {
        if let Some(recording) = &mut *stream.recording() {
            status = recording.refuse().or(Err(hipError_t::hipErrorStreamCaptureImplicit));
        }
    }
    status
}

fn create(flags: c_uint) -> Result<hipStream_t, hipError_t> {
    if flags & !NON_BLOCKING != 0 {
        return Err(hipError_t::hipErrorInvalidValue);
    }
    Ok(STREAMS.add(Stream { card: cards::current()?, flags, recording: Mutex::new(None) }))
}

fn create_event(flags: c_uint) -> EventHandle {
    EVENTS.add(Event { timed: flags & DISABLE_TIMING == 0, recorded: Mutex::new(None) })
}

hip_functions! {
    /// Makes a stream.
    fn hipStreamCreate(place: *mut hipStream_t) {
        // SAFETY: the caller's place for the result.
        unsafe { put(place, create(0)?) }
    }

    /// Makes a stream.
    fn hipStreamCreateWithFlags(place: *mut hipStream_t, flags: c_uint) {
        // SAFETY: the caller's place for the result.
        unsafe { put(place, create(flags)?) }
    }

    /// Makes a stream; there is one priority.
    fn hipStreamCreateWithPriority(place: *mut hipStream_t, flags: c_uint, _priority: c_int) {
        // SAFETY: the caller's place for the result.
        unsafe { put(place, create(flags)?) }
    }

    /// The only priority.
    fn hipDeviceGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int) {
        // SAFETY: the caller's place for the result.
        unsafe { put(least, 0) }?;
        // SAFETY: the caller's place for the result.
        unsafe { put(greatest, 0) }
    }

    /// Ends a stream.
    fn hipStreamDestroy(stream: hipStream_t) {
        STREAMS.remove(stream).map(drop)
    }

    /// Does nothing: all work is done.
    fn hipStreamSynchronize(stream: hipStream_t) {
        expect_idle(stream)
    }

    /// All work is done.
    fn hipStreamQuery(stream: hipStream_t) {
        expect_idle(stream)
    }

    /// The flags that a stream was made with.
    fn hipStreamGetFlags(stream: hipStream_t, place: *mut c_uint) {
        let flags = find(stream)?.map_or(0, |stream| stream.flags);
        // SAFETY: the caller's place for the result.
        unsafe { put(place, flags) }
    }

    /// Does nothing: all work is done.
    fn hipStreamWaitEvent(stream: hipStream_t, event: EventHandle, _flags: c_uint) {
        expect_idle(stream)?;
        EVENTS.get(event).map(drop)
    }

    /// Makes an event.
    fn hipEventCreate(place: *mut EventHandle) {
        // SAFETY: the caller's place for the result.
        unsafe { put(place, create_event(0)) }
    }

    /// Makes an event.
    fn hipEventCreateWithFlags(place: *mut EventHandle, flags: c_uint) {
        // SAFETY: the caller's place for the result.
        unsafe { put(place, create_event(flags)) }
    }

    /// Ends an event.
    fn hipEventDestroy(event: EventHandle) {
        EVENTS.remove(event).map(drop)
    }

    /// Takes the time.
    fn hipEventRecord(event: EventHandle, stream: hipStream_t) {
        expect_idle(stream)?;
        let event = EVENTS.get(event)?;
        *event.recorded.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Ok(())
    }

    /// Does nothing: all work is done.
    fn hipEventSynchronize(event: EventHandle) {
        EVENTS.get(event).map(drop)
    }

    /// All work is done.
    fn hipEventQuery(event: EventHandle) {
        EVENTS.get(event).map(drop)
    }

    /// Milliseconds of host time between two events; negative when the first was recorded later.
    fn hipEventElapsedTime(place: *mut f32, start: EventHandle, stop: EventHandle) {
        let (start, stop) = (EVENTS.get(start)?.recorded()?, EVENTS.get(stop)?.recorded()?);
        let seconds = stop.saturating_duration_since(start).as_secs_f32()
            - start.saturating_duration_since(stop).as_secs_f32();
        // SAFETY: the caller's place for the result.
        unsafe { put(place, seconds * 1e3) }
    }
}
