//! What launches tell of themselves: the bytes in their spans.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Bytes of the launches since they were last taken.
static BYTES: AtomicU64 = AtomicU64::new(0);

/// Takes the bytes that launches have told.
pub(crate) fn take() -> u64 {
    BYTES.swap(0, Ordering::Relaxed)
}

/// Adds up the bytes of spans named `launch`.
pub(crate) struct LaunchBytes;

impl<S: Subscriber> Layer<S> for LaunchBytes {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        if attributes.metadata().name() == "launch" {
            attributes.record(&mut Adder);
        }
    }
}

struct Adder;

impl Visit for Adder {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "bytes" {
            BYTES.fetch_add(value, Ordering::Relaxed);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}
