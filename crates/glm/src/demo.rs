use anyhow::Result;
use model_glm::Message;

use crate::args::{AnswerArgs, DemoArgs};
use crate::session::Session;
use crate::{embedded, run};

/// Questions of the toy to show unasked.
const SHOWN: usize = 3;

pub(crate) fn execute(args: &DemoArgs) -> Result<()> {
    let known = embedded::questions()?;
    if args.list {
        let lines: String = known.iter().map(|(question, _)| format!("{question}\n")).collect();
        return run::say(&lines);
    }
    let questions: Vec<String> = match &args.question {
        Some(question) => vec![question.clone()],
        None => known.into_iter().map(|(question, _)| question).take(SHOWN).collect(),
    };
    eprintln!(
        "A toy with GLM-4's architecture and 1.7 million parameters. It knows {} answers about Gyre and nothing else.",
        embedded::questions()?.len()
    );
    let answer = AnswerArgs { supervise: args.supervise, ..AnswerArgs::of_the_toy() };
    let mut session = Session::open(None, args.device, &answer)?;
    let mut last = None;
    for question in questions {
        run::say(&format!("\n> {question}\n"))?;
        let (_, generated) = session.answer(&[Message::new("user", question)], run::say)?;
        run::say("\n")?;
        last = Some(generated);
    }
    if let Some(generated) = last {
        run::tell(&session, &generated);
    }
    Ok(())
}
