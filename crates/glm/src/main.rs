//! `glm`: run, chat with, inspect and check GLM models.

#![forbid(unsafe_code)]

mod args;
mod bench;
mod chat;
mod demo;
mod device;
mod doctor;
mod dump;
mod embedded;
mod exit;
mod inspect;
mod log;
mod place;
mod quantize;
mod run;
mod selfcheck;
mod session;
mod supervise;
mod ui;
mod worker;

use std::io::{Write, stderr, stdout};
use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Verb};

fn main() -> ExitCode {
    let Cli { verbose, trace, verb } = Cli::parse();
    let done = log::start(verbose, trace.as_deref()).and_then(|_written_on_drop| match verb {
        Verb::Run(args) => run::execute(&args),
        Verb::Chat(args) => chat::execute(&args),
        Verb::Demo(args) => demo::execute(&args),
        Verb::Inspect(args) => inspect::execute(&args),
        Verb::Quantize(args) => quantize::execute(&args),
        Verb::Bench(args) => bench::execute(&args),
        Verb::Dump(args) => dump::execute(&args),
        Verb::Doctor(args) => doctor::execute(&args),
        Verb::Selfcheck(args) => selfcheck::execute(&args),
        Verb::Worker(args) => worker::execute(&args),
    });
    let code = done.map_or_else(|error| exit::report(&error), |()| exit::SUCCESS);
    if device_mem::any_is_lost() {
        // The driver's own teardown may wait for the device for ever.
        let _ = (stdout().flush(), stderr().flush());
        device_mem::exit_at_once(code);
    }
    ExitCode::from(code)
}
