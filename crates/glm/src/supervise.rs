//! A model in a process of its own: what a GPU's driver does to that process costs the process, not the answer.
//!
//! The supervisor holds the ids of the prompt and of the tokens that it has told. A worker that ends, is ended by its watchdog,
//! or reports a device that failed is followed by another, which begins from these ids at the step that was due.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use device_mem::DeviceChoice;
use model_glm::{CacheSize, GenerateOptions, GlmError, Next, StopReason, TokenId};

use crate::args::DeviceArgs;
use crate::device::Asked;
use crate::exit;
use crate::place::Report;
use crate::session::Answered;
use crate::worker::{Done, Failed, Message, Request};

/// How often a worker is started again on the device for one answer.
const RESTARTS: usize = 1;

/// How often, and how long each time, a worker that is to end is waited for.
const LAST_WAITS: u32 = 200;
const LAST_WAIT: Duration = Duration::from_millis(10);

/// The workers of a session, one after another.
pub(crate) struct Supervisor {
    model: Option<PathBuf>,
    args: DeviceArgs,
    cache: CacheSize,
    worker: Worker,
    report: Report,
    /// Why the CPU goes on.
    fallback: Option<String>,
    restarts: usize,
    /// Workers that ended during this answer, or before the first.
    deaths: usize,
}

/// A process that answers, and what it said when it was ready.
struct Worker {
    child: Child,
    /// There until it is to end.
    requests: Option<ChildStdin>,
    messages: BufReader<ChildStdout>,
}

/// A worker's failure that is no reason to start another, or after which there is none to start.
#[derive(Debug)]
pub(crate) struct WorkerFailed {
    reason: String,
    /// The exit code that it asks for.
    pub(crate) code: u8,
    /// What a person can do.
    pub(crate) remedy: Option<String>,
}

impl fmt::Display for WorkerFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for WorkerFailed {}

/// How a worker's part of an answer ended.
enum Ended {
    Well(Box<Done>),
    /// The reader wants no more.
    Unread,
    /// Another may go on.
    Badly(Failed),
}

impl Worker {
    /// Starts a process and waits until it has loaded the model.
    fn start(
        model: Option<&Path>,
        args: DeviceArgs,
        cache: CacheSize,
    ) -> Result<std::result::Result<(Worker, Report), Failed>> {
        let program = std::env::current_exe().context("finding this program, to start it as a worker")?;
        let mut command = Command::new(program);
        command.args(["worker", "--device", &args.device.to_string()]);
        command.args(["--device-timeout", &args.device_timeout.as_secs_f64().to_string()]);
        command.args(["--kv-dtype", &cache.dtype.to_string(), "--context", &cache.capacity.to_string()]);
        if let Some(dtype) = args.dtype {
            command.args(["--dtype", &dtype.to_string()]);
        }
        if args.allow_non_finite {
            command.arg("--allow-non-finite");
        }
        if let Some(model) = model {
            command.arg("--model").arg(model);
        }
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("starting a worker")?;
        let requests = child.stdin.take();
        let messages = child.stdout.take().context("a worker has no stdout")?;
        let mut worker = Worker { child, requests, messages: BufReader::new(messages) };
        Ok(match worker.hear()? {
            Message::Ready(report) => Ok((worker, report)),
            Message::Failed(failed) => Err(failed),
            Message::Token(_) | Message::Done(_) => {
                Err(Failed::of_device(String::from("it answered unasked")))
            }
        })
    }

    /// The next message. A worker that is gone, or ends in the middle of a line, has failed.
    fn hear(&mut self) -> Result<Message> {
        loop {
            let mut line = Vec::new();
            let read = self.messages.read_until(b'\n', &mut line);
            if read.is_err() || !line.ends_with(b"\n") {
                let status = self.child.wait().context("waiting for a worker")?;
                return Ok(Message::Failed(Failed::of_device(format!("the worker ended: {status}"))));
            }
            // A driver may write to stdout too, and that is no message.
            if let Some(message) = Message::read(&line) {
                return Ok(message);
            }
            tracing::debug!(line = %String::from_utf8_lossy(&line).trim_end(), "a worker wrote what is no message");
        }
    }

    /// Asks for tokens; each whole one is told.
    fn ask(
        &mut self,
        request: &Request,
        mut on_token: impl FnMut(TokenId) -> std::result::Result<Next, GlmError>,
    ) -> Result<Ended> {
        // Where it cannot be asked, it has ended, which the next message tells.
        if let Some(requests) = &mut self.requests {
            let _ = requests.write_all(request.line().as_bytes()).and_then(|()| requests.flush());
        }
        loop {
            match self.hear()? {
                Message::Token(token) => {
                    if on_token(token)? == Next::Stop {
                        return Ok(Ended::Unread);
                    }
                }
                Message::Done(done) => return Ok(Ended::Well(Box::new(done))),
                Message::Failed(failed) => return Ok(Ended::Badly(failed)),
                Message::Ready(_) => {
                    return Ok(Ended::Badly(Failed::of_device(String::from("the worker began anew"))));
                }
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It ends with its stdin. One that is busy, or that a driver holds, is killed, and nobody waits for it for long.
        self.requests = None;
        for _ in 0..LAST_WAITS {
            match self.child.try_wait() {
                Ok(None) => thread::sleep(LAST_WAIT),
                _ => return,
            }
        }
        let _ = self.child.kill();
        let _ = self.child.try_wait();
    }
}

impl Supervisor {
    /// Starts the first worker.
    pub(crate) fn start(model: Option<&Path>, args: DeviceArgs, cache: CacheSize) -> Result<Supervisor> {
        let mut args = args;
        let (mut fallback, mut deaths) = (None, 0);
        let (worker, report) = loop {
            match Worker::start(model, args, cache)? {
                Ok(ready) => break ready,
                Err(failed) => args.device = next_device(args.device, failed, &mut deaths, 0, &mut fallback)?,
            }
        };
        let model = model.map(Path::to_owned);
        Ok(Supervisor { model, args, cache, worker, report, fallback, restarts: deaths, deaths: 0 })
    }

    /// As `Here::generate`; where a worker fails on the way, another goes on.
    pub(crate) fn generate(
        &mut self,
        prompt: &[TokenId],
        options: GenerateOptions<'_>,
        mut on_token: impl FnMut(TokenId) -> std::result::Result<Next, GlmError>,
    ) -> Result<Answered> {
        let GenerateOptions { max_tokens, sampler, stop_ids } = options;
        let mut tokens: Vec<TokenId> = Vec::new();
        self.deaths = 0;
        loop {
            let request = Request {
                ids: [prompt, &tokens].concat(),
                max_tokens: max_tokens.saturating_sub(tokens.len()),
                stop_ids: stop_ids.to_vec(),
                config: *sampler.config(),
                step: sampler.step() + tokens.len() as u64,
            };
            let ended = self.worker.ask(&request, |token| {
                tokens.push(token);
                on_token(token)
            })?;
            let done = match ended {
                Ended::Well(done) => *done,
                Ended::Unread => Done { stop_reason: StopReason::Callback, ..Done::default() },
                Ended::Badly(failed) => {
                    self.replace(failed, tokens.len())?;
                    // What is left of a whole answer is its end.
                    if tokens.len() < max_tokens {
                        continue;
                    }
                    Done { stop_reason: StopReason::MaxTokens, ..Done::default() }
                }
            };
            if let Some(report) = done.report {
                self.report = report;
            }
            let Done { stop_reason, prompt_time, decode_time, decode_steps, .. } = done;
            return Ok(Answered { tokens, stop_reason, prompt_time, decode_time, decode_steps });
        }
    }

    /// Another worker, on the device or on the CPU.
    fn replace(&mut self, failed: Failed, tokens: usize) -> Result<()> {
        let mut failed = failed;
        // One that ran on the CPU has no device to blame.
        if self.report.ran_on == "cpu" {
            failed.is_of_device = false;
        }
        loop {
            let Supervisor { args, deaths, fallback, .. } = self;
            args.device = next_device(args.device, failed, deaths, tokens, fallback)?;
            self.restarts += 1;
            match Worker::start(self.model.as_deref(), self.args, self.cache)? {
                Ok((worker, report)) => {
                    (self.worker, self.report) = (worker, report);
                    return Ok(());
                }
                Err(again) => failed = again,
            }
        }
    }

    /// What is told of where it ran.
    pub(crate) fn report(&self) -> Report {
        let mut report = self.report.clone();
        report.restarts = self.restarts;
        if let Some(reason) = &self.fallback {
            report.where_it_ran = format!("ran on cpu, not on a GPU: {reason}");
            report.fallback = Some(reason.clone());
        } else if self.restarts > 0 {
            report.where_it_ran += &format!(", in a worker that was started again ({})", self.restarts);
        }
        report
    }
}

/// Where the next worker runs after one has failed: on the device once more, then on the CPU if `auto` allows it.
fn next_device(
    asked: Asked,
    failed: Failed,
    deaths: &mut usize,
    tokens: usize,
    fallback: &mut Option<String>,
) -> Result<Asked> {
    let Failed { reason, is_of_device, code, remedy } = failed;
    let cpu = Asked::Of(DeviceChoice::Cpu);
    *deaths += 1;
    if !is_of_device || asked == cpu {
        return Err(WorkerFailed { reason, code, remedy }.into());
    }
    let reason = format!("the device failed after {tokens} tokens: {reason}");
    if *deaths <= RESTARTS {
        tracing::warn!(reason, "starting the worker again");
        return Ok(asked);
    }
    if !asked.is_auto() {
        let code = exit::NO_DEVICE;
        return Err(WorkerFailed { reason, code, remedy }.into());
    }
    tracing::warn!(reason, "going on on the CPU");
    *fallback = Some(reason);
    Ok(cpu)
}

/// Seconds as a worker says them.
pub(crate) fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
