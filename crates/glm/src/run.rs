use std::io::{self, Read, Write};

use anyhow::{Context, Result};
use model_glm::{Message, StopReason};
use serde_json::json;

use crate::args::RunArgs;
use crate::session::{Answered, Session};
use crate::ui;

pub(crate) fn execute(args: &RunArgs) -> Result<()> {
    let prompt = match args.prompt.as_str() {
        "-" => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).context("stdin holds no text")?;
            text
        }
        prompt => prompt.to_owned(),
    };
    let mut session = Session::open(Some(&args.model), args.device, &args.answer)?;
    let system = args.answer.system.iter().map(|text| Message::new("system", text));
    let messages: Vec<Message> = system.chain([Message::new("user", prompt)]).collect();
    let (text, generated) = session.answer(&messages, |piece| if args.json { Ok(()) } else { say(piece) })?;
    if args.json {
        say(&format!("{}\n", summary(&session, &text, &generated)))?;
    } else {
        say("\n")?;
        tell(&session, &generated);
    }
    Ok(())
}

/// Writes a piece of an answer to stdout at once.
pub(crate) fn say(piece: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(piece.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// Speed, end and place of an answer, on stderr.
pub(crate) fn tell(session: &Session, generated: &Answered) {
    let speed = ui::rate(generated.decode_steps, generated.decode_time);
    let ended = match generated.stop_reason {
        StopReason::MaxTokens => ", cut at --max-tokens",
        StopReason::ContextFull => ", cut at the end of the context; see --context",
        _ => "",
    };
    let (tokens, prompt) = (generated.tokens.len(), generated.prompt_time.as_secs_f64());
    eprintln!("{tokens} tokens, {speed:.1} tokens/s after {prompt:.2} s for the prompt{ended}");
    eprintln!("{}", session.report().where_it_ran);
}

fn summary(session: &Session, text: &str, generated: &Answered) -> serde_json::Value {
    let stop_reason = match generated.stop_reason {
        StopReason::StopToken(_) => "stop",
        StopReason::MaxTokens => "length",
        StopReason::ContextFull => "context",
        _ => "other",
    };
    let report = session.report();
    json!({
        "text": text,
        "tokens": generated.tokens,
        "stop_reason": stop_reason,
        "prompt_seconds": generated.prompt_time.as_secs_f64(),
        "decode_tokens_per_second": ui::rate(generated.decode_steps, generated.decode_time),
        "ran_on": report.ran_on,
        "why_not_gpu": report.fallback,
        "device_errors": report.device_errors,
        "restarts": report.restarts,
        "memory_bytes": report.memory,
    })
}
