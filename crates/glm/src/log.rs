//! Where the program's log goes: lines on stderr, and a trace in a file.

use std::fmt;
use std::fs::File;
use std::io::{IsTerminal, stderr};
use std::path::Path;

use anyhow::{Context, Result};
use tracing::Subscriber;
use tracing::field::Field;
use tracing::span::{Attributes, Id};
use tracing_chrome::{ChromeLayerBuilder, EventOrSpan, FlushGuard};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{EnvFilter, LevelFilter, Targets};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer;
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;

/// Sends warnings to stderr, more with `-v`, or what RUST_LOG asks for; and every launch to the file `trace`, which is whole
/// when the guard is dropped.
pub(crate) fn start(verbose: u8, trace: Option<&Path>) -> Result<Option<FlushGuard>> {
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) => EnvFilter::try_new(&text).with_context(|| format!("RUST_LOG is {text:?}"))?,
        Err(_) => EnvFilter::new(level.to_string()),
    };
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .without_time()
        .with_target(false)
        .with_span_events(FmtSpan::CLOSE)
        .with_filter(filter);
    let (events, guard) = trace.map(to_file).transpose()?.unzip();
    tracing_subscriber::registry().with(lines).with(events).init();
    Ok(guard)
}

/// The launches of `device-mem` as trace events, each under its kernel's name.
fn to_file<S>(path: &Path) -> Result<(impl Layer<S>, FlushGuard)>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let file = File::create(path).with_context(|| format!("--trace {} cannot be written", path.display()))?;
    let name = |of: &EventOrSpan<'_, '_, S>| match of {
        EventOrSpan::Span(span) => match span.extensions().get::<KernelName>() {
            Some(KernelName(name)) => name.clone(),
            None => span.name().to_owned(),
        },
        EventOrSpan::Event(event) => event.metadata().name().to_owned(),
    };
    let (layer, guard) =
        ChromeLayerBuilder::new().writer(file).include_args(true).name_fn(Box::new(name)).build();
    let launches = Targets::new().with_target("device_mem", LevelFilter::TRACE);
    Ok((KernelNames.and_then(layer).with_filter(launches), guard))
}

/// The field `kernel` of a span.
struct KernelName(String);

/// Keeps each span's [`KernelName`] beside it.
struct KernelNames;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for KernelNames {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: layer::Context<'_, S>) {
        let mut name = None;
        attributes.record(&mut |field: &Field, value: &dyn fmt::Debug| {
            if field.name() == "kernel" {
                name = Some(format!("{value:?}").trim_matches('"').to_owned());
            }
        });
        if let (Some(span), Some(name)) = (context.span(id), name) {
            span.extensions_mut().insert(KernelName(name));
        }
    }
}
