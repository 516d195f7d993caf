//! The other side of `supervise`: answers requests on stdin, one line of JSON each, with lines on stdout, until stdin ends.

use std::io::{BufRead, Write, stdin, stdout};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use device_mem::calls;
use kernels_nn::{Sampler, SamplerConfig};
use model_glm::{CacheSize, GenerateOptions, GlmError, Next, StopReason, TokenId};
use serde_json::{Value, json};

use crate::args::WorkerArgs;
use crate::place::{Here, Report};
use crate::supervise::duration;
use crate::{device, exit, session, ui};

/// What a supervisor asks for: the tokens after `ids`, the first drawn at `step`.
pub(crate) struct Request {
    pub(crate) ids: Vec<TokenId>,
    pub(crate) max_tokens: usize,
    pub(crate) stop_ids: Vec<TokenId>,
    pub(crate) config: SamplerConfig,
    pub(crate) step: u64,
}

/// What a worker says.
pub(crate) enum Message {
    /// The model is loaded.
    Ready(Report),
    /// The next token of the answer.
    Token(TokenId),
    /// The answer has ended.
    Done(Done),
    /// There is no more of it.
    Failed(Failed),
}

/// How an answer ended.
pub(crate) struct Done {
    pub(crate) stop_reason: StopReason,
    pub(crate) prompt_time: Duration,
    pub(crate) decode_time: Duration,
    pub(crate) decode_steps: usize,
    pub(crate) report: Option<Report>,
}

impl Default for Done {
    fn default() -> Done {
        Done {
            stop_reason: StopReason::MaxTokens,
            prompt_time: Duration::ZERO,
            decode_time: Duration::ZERO,
            decode_steps: 0,
            report: None,
        }
    }
}

/// Why a worker cannot go on.
pub(crate) struct Failed {
    pub(crate) reason: String,
    /// Whether another process, or another device, may do better.
    pub(crate) is_of_device: bool,
    pub(crate) code: u8,
    pub(crate) remedy: Option<String>,
}

impl Failed {
    /// The device or its driver is to blame.
    pub(crate) fn of_device(reason: String) -> Failed {
        Failed { reason, is_of_device: true, code: exit::NO_DEVICE, remedy: None }
    }
}

/// Loads the model, says so, and answers.
pub(crate) fn execute(args: &WorkerArgs) -> Result<()> {
    watch(args.device.device_timeout);
    let path = args.model.as_deref();
    let cache = CacheSize { capacity: args.context, dtype: args.kv_dtype };
    let opened = session::config(path)
        .and_then(|config| Ok((config, session::weights(path)?)))
        .and_then(|model| Here::open(model, args.device, cache, false));
    let mut here = match opened {
        Ok(here) => here,
        Err(error) => return say(&failed(&error)),
    };
    say(&json!({ "ready": report_as_json(&here.loaded.report()) }))?;
    for line in stdin().lock().lines() {
        let request = Request::read(&line?).context("a supervisor asks in lines of JSON")?;
        let answered = answer(&mut here, request);
        say(&answered.as_ref().map_or_else(failed, Clone::clone))?;
        if answered.is_err() {
            break;
        }
    }
    Ok(())
}

fn answer(here: &mut Here, request: Request) -> Result<Value> {
    let Request { ids, max_tokens, stop_ids, config, step } = request;
    let sampler = Sampler::new(config).map_err(GlmError::from)?.at_step(step);
    let options = GenerateOptions { max_tokens, sampler, stop_ids: &stop_ids };
    let mut told = Ok(());
    let generated = here.generate(&ids, options, |token| {
        told = say(&json!({ "token": token }));
        Ok(if told.is_ok() { Next::Continue } else { Next::Stop })
    })?;
    told?;
    let (stop, token) = match generated.stop_reason {
        StopReason::StopToken(token) => ("stop", Some(token)),
        StopReason::MaxTokens => ("length", None),
        StopReason::ContextFull => ("context", None),
        _ => ("other", None),
    };
    Ok(json!({ "done": {
        "stop": stop,
        "token": token,
        "prompt_seconds": generated.prompt_time.as_secs_f64(),
        "decode_seconds": generated.decode_time.as_secs_f64(),
        "decode_steps": generated.decode_steps,
        "report": report_as_json(&here.loaded.report()),
    }}))
}

/// A whole line at once, so that a supervisor never takes a part of one for a token.
fn say(message: &Value) -> Result<()> {
    let mut out = stdout().lock();
    out.write_all(format!("{message}\n").as_bytes())?;
    out.flush()?;
    Ok(())
}

fn failed(error: &anyhow::Error) -> Value {
    json!({ "failed": {
        "reason": ui::one_line(error.as_ref()),
        "is_of_device": device::is_to_blame(error.as_ref()),
        "code": exit::code(error),
        "remedy": exit::remedy(error),
    }})
}

/// Ends the process when the driver does not return from a call. Waits end by themselves at `deadline`; an operation has two at
/// most.
fn watch(deadline: Duration) {
    let limit = deadline.saturating_mul(2).saturating_add(Duration::from_secs(1));
    let pause = (limit / 16).min(Duration::from_secs(1));
    thread::spawn(move || {
        let (mut last, mut since) = (calls(), Instant::now());
        loop {
            thread::sleep(pause);
            let now = calls();
            if now != last || now.begun == now.ended {
                (last, since) = (now, Instant::now());
            } else if since.elapsed() > limit {
                let reason =
                    format!("HIP has not returned from a call for {:.0} s", since.elapsed().as_secs_f64());
                // Said before the end, which a driver may hold up as well.
                let _ = say(&json!({ "failed": {
                    "reason": reason, "is_of_device": true, "code": exit::NO_DEVICE, "remedy": Value::Null,
                }}));
                device_mem::exit_at_once(exit::NO_DEVICE);
            }
        }
    });
}

impl Request {
    /// The request as a line.
    pub(crate) fn line(&self) -> String {
        let Request { ids, max_tokens, stop_ids, config, step } = self;
        let SamplerConfig { temperature, top_p, top_k, seed, .. } = config;
        let sampler =
            json!({ "temperature": temperature, "top_p": top_p, "top_k": top_k, "seed": seed, "step": step });
        format!(
            "{}\n",
            json!({ "ids": ids, "max_tokens": max_tokens, "stop_ids": stop_ids, "sampler": sampler })
        )
    }

    /// `None` for anything else than a request.
    fn read(line: &str) -> Option<Request> {
        let value: Value = serde_json::from_str(line).ok()?;
        let sampler = value.get("sampler")?;
        #[expect(clippy::cast_possible_truncation, reason = "it was an f32")]
        let single = |key| sampler.get(key).and_then(Value::as_f64).map(|number| number as f32);
        let config = SamplerConfig {
            temperature: single("temperature")?,
            top_p: single("top_p")?,
            top_k: u32::try_from(sampler.get("top_k")?.as_u64()?).ok()?,
            seed: sampler.get("seed")?.as_u64()?,
        };
        Some(Request {
            ids: ids(value.get("ids")?)?,
            max_tokens: usize::try_from(value.get("max_tokens")?.as_u64()?).ok()?,
            stop_ids: ids(value.get("stop_ids")?)?,
            config,
            step: sampler.get("step")?.as_u64()?,
        })
    }
}

fn ids(value: &Value) -> Option<Vec<TokenId>> {
    value.as_array()?.iter().map(id).collect()
}

fn id(value: &Value) -> Option<TokenId> {
    value.as_u64().and_then(|id| TokenId::try_from(id).ok())
}

impl Message {
    /// `None` for anything else than a message.
    pub(crate) fn read(line: &[u8]) -> Option<Message> {
        let value: Value = serde_json::from_slice(line).ok()?;
        if let Some(token) = value.get("token") {
            return Some(Message::Token(id(token)?));
        }
        if let Some(report) = value.get("ready") {
            return Some(Message::Ready(report_of(report)?));
        }
        if let Some(done) = value.get("done") {
            return Some(Message::Done(done_of(done)?));
        }
        let failed = value.get("failed")?;
        Some(Message::Failed(Failed {
            reason: failed.get("reason")?.as_str()?.to_owned(),
            is_of_device: failed.get("is_of_device")?.as_bool()?,
            code: u8::try_from(failed.get("code")?.as_u64()?).ok()?,
            remedy: failed.get("remedy").and_then(Value::as_str).map(str::to_owned),
        }))
    }
}

fn done_of(done: &Value) -> Option<Done> {
    let seconds = |key| done.get(key).and_then(Value::as_f64).map(duration);
    let stop_reason = match done.get("stop")?.as_str()? {
        "stop" => StopReason::StopToken(id(done.get("token")?)?),
        "length" => StopReason::MaxTokens,
        "context" => StopReason::ContextFull,
        _ => StopReason::Callback,
    };
    Some(Done {
        stop_reason,
        prompt_time: seconds("prompt_seconds")?,
        decode_time: seconds("decode_seconds")?,
        decode_steps: usize::try_from(done.get("decode_steps")?.as_u64()?).ok()?,
        report: Some(report_of(done.get("report")?)?),
    })
}

fn report_as_json(report: &Report) -> Value {
    let Report { ran_on, where_it_ran, fallback, memory, device_errors, .. } = report;
    json!({
        "ran_on": ran_on,
        "where": where_it_ran,
        "fallback": fallback,
        "memory": memory,
        "device_errors": device_errors,
    })
}

fn report_of(value: &Value) -> Option<Report> {
    let text = |key| value.get(key).and_then(Value::as_str).map(str::to_owned);
    Some(Report {
        ran_on: text("ran_on")?,
        where_it_ran: text("where")?,
        fallback: text("fallback"),
        memory: value.get("memory")?.clone(),
        device_errors: value.get("device_errors")?.clone(),
        restarts: 0,
    })
}
