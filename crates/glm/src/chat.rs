use std::io::{self, BufRead, IsTerminal};

use anyhow::{Context, Result};
use model_glm::Message;

use crate::args::ChatArgs;
use crate::session::Session;
use crate::{embedded, run};

const HELP: &str = "/reset forgets the conversation, /exit or end of input ends, /help shows this";

pub(crate) fn execute(args: &ChatArgs) -> Result<()> {
    let mut session = Session::open(args.model.as_deref(), args.device, &args.answer)?;
    let system = args.answer.system.iter().map(|text| Message::new("system", text));
    let opening: Vec<Message> = system.collect();
    let turns = if args.model.is_none() { embedded::TURNS } else { usize::MAX };
    if args.model.is_none() {
        eprintln!(
            "This is the embedded toy: it knows some answers about Gyre and nothing else. `glm demo --list`"
        );
    }
    eprintln!("{} tokens of context. {HELP}", session.context());

    let mut messages = opening.clone();
    for line in lines() {
        let line = line?;
        match line.trim() {
            "" => continue,
            "/exit" => break,
            "/help" => eprintln!("{HELP}"),
            "/reset" => messages.clone_from(&opening),
            text => {
                messages.push(Message::new("user", text));
                let (answer, generated) = session.answer(&messages, run::say)?;
                run::say("\n")?;
                run::tell(&session, &generated);
                messages.push(Message::new("assistant", answer));
                forget(&mut messages, opening.len(), turns);
            }
        }
        prompt();
    }
    Ok(())
}

/// Lines of stdin, with a prompt before each when a person types them.
fn lines() -> impl Iterator<Item = Result<String>> {
    prompt();
    io::stdin().lock().lines().map(|line| line.context("stdin holds no text"))
}

fn prompt() {
    if io::stdin().is_terminal() {
        eprint!("> ");
    }
}

/// Drops the oldest turns (a question and its answer each) beyond the last `turns`.
fn forget(messages: &mut Vec<Message>, opening: usize, turns: usize) {
    let most = opening.saturating_add(turns.saturating_mul(2));
    if messages.len() > most {
        messages.drain(opening..opening + messages.len() - most);
    }
}
