use anyhow::Result;
use device_mem::doctor::{Check, DoctorEnv, Status, examine};
use device_mem::{DeviceChoice, RanOn};
use model_glm::Message;
use serde_json::{Value, json};

use crate::args::{AnswerArgs, DeviceArgs, DoctorArgs};
use crate::session::Session;
use crate::{embedded, run};

/// Prints what was found; the exit code is 0 whatever that is, since a machine without a card is no failure.
pub(crate) fn execute(args: &DoctorArgs) -> Result<()> {
    let mut checks = examine(&DoctorEnv::of_this_process());
    checks.extend(images());
    checks.push(self_test()?);
    if args.json {
        return run::say(&format!("{}\n", Value::Array(checks.iter().map(as_json).collect())));
    }
    let lines: String = checks.iter().map(as_lines).collect();
    let gaps = checks.iter().filter(|check| check.status != Status::Ok).count();
    let summary =
        format!("{} checks, {gaps} with advice. `--device auto` runs models on the CPU.\n", checks.len());
    run::say(&(lines + &summary))
}

fn as_lines(check: &Check) -> String {
    let found = check.found.replace('\n', "\n      ");
    let advice = check.advice.iter().map(|advice| format!("      -> {advice}\n")).collect::<String>();
    format!("{} {}: {found}\n{advice}", mark(check.status), check.name)
}

/// The embedded kernel images. None of them has run on a card.
fn images() -> Vec<Check> {
    let check = |set: &hsaco::ImageSet| {
        let archs: Vec<&str> = set.images.iter().map(|image| image.arch).collect();
        let (status, advice) = match archs.is_empty() {
            true => (Status::Warn, Some(String::from("run cargo xtask build-kernels, then build again"))),
            false => (Status::Ok, None),
        };
        let found = format!("{} (compiled only) for {}", set.decl.image, archs.join(", "));
        Check { name: "kernel images", status, found, advice }
    };
    [&kernels_rope::kernels::ROPE, &kernels_rope::kernels::POSITION_EMBEDDINGS].map(check).to_vec()
}

/// Asks the toy a question that it knows.
fn self_test() -> Result<Check> {
    let device = DeviceArgs { device: DeviceChoice::Cpu, dtype: None };
    let mut session = Session::open(None, device, &AnswerArgs::of_the_toy())?;
    let known = embedded::questions()?;
    let (question, expected) = known.first().map_or(("", ""), |(question, answer)| (question, answer));
    let (text, generated) = session.answer(&[Message::new("user", question)], |_| Ok(()))?;
    let right = text == expected && generated.ran_on == RanOn::Cpu;
    let (status, found, advice) = match right {
        true => (Status::Ok, String::from("the embedded model answers word for word on the CPU"), None),
        false => (
            Status::Fail,
            format!("asked {question:?}, the embedded model answered {text:?}"),
            Some(String::from(
                "this build computes wrongly on this CPU; please report it with the output of lscpu",
            )),
        ),
    };
    Ok(Check { name: "self-test", status, found, advice })
}

fn mark(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok  ",
        Status::Warn => "warn",
        Status::Fail => "fail",
    }
}

fn as_json(check: &Check) -> Value {
    json!({
        "name": check.name,
        "status": mark(check.status).trim(),
        "found": check.found,
        "advice": check.advice,
    })
}
