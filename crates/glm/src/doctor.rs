use anyhow::Result;
use device_mem::doctor::{Check, DoctorEnv, Status, examine};
use device_mem::{DeviceChoice, HipDevice};
use hsaco::ImageSet;
use model_glm::Message;
use serde_json::{Value, json};

use crate::args::{AnswerArgs, DeviceArgs, DoctorArgs};
use crate::device::Asked;
use crate::session::Session;
use crate::{embedded, run};

/// Every embedded kernel, by the crate that owns it.
pub(crate) const IMAGES: [(&str, &[&ImageSet]); 3] = [
    ("kernels-rope", &kernels_rope::kernels::ALL),
    ("kernels-nn", &kernels_nn::kernels::ALL),
    ("attention", &attention::kernels::ALL),
];

/// Prints what was found; the exit code is 0 whatever that is, since a machine without a card is no failure.
pub(crate) fn execute(args: &DoctorArgs) -> Result<()> {
    let mut checks = examine(&DoctorEnv::of_this_process());
    checks.extend(IMAGES.iter().map(|(owner, sets)| images(owner, sets)));
    checks.push(self_test("self-test", Asked::Of(DeviceChoice::Cpu)));
    checks.push(self_test("emulator", Asked::Emulator(None)));
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

/// The kernel images of one crate. Of them PTX alone has run on a card.
fn images(owner: &str, sets: &[&ImageSet]) -> Check {
    let lines = sets.iter().map(|set| {
        let archs = set.images.iter().map(|image| image.arch);
        let (ptx, archs): (Vec<&str>, Vec<&str>) = archs.partition(|arch| arch.starts_with("sm_"));
        let line = format!("\n{} (emulated, not run on a card) for {}", set.decl.image, archs.join(", "));
        ptx.iter().fold(line, |line, capability| line + &format!("; PTX from {capability} on"))
    });
    let found = lines.fold(format!("of {owner}"), |text, line| text + &line);
    let (status, advice) = match sets.iter().any(|set| set.images.is_empty()) {
        true => (Status::Warn, Some(String::from("run cargo xtask build-kernels, then build again"))),
        false => (Status::Ok, None),
    };
    Check { name: "kernel images", status, found, advice }
}

/// Asks the toy a question that it knows.
fn self_test(name: &'static str, device: Asked) -> Check {
    let (status, found) = match ask_the_toy(device) {
        Ok((found, true)) => (Status::Ok, found),
        Ok((found, false)) => (Status::Fail, found),
        Err(error) => (Status::Fail, format!("{error:#}")),
    };
    let report = "this build does not compute as it should here; please report it with the output of lscpu";
    let advice = (status == Status::Fail).then(|| report.to_owned());
    Check { name, status, found, advice }
}

/// What it answered and where, and whether that was right.
fn ask_the_toy(device: Asked) -> Result<(String, bool)> {
    let device = DeviceArgs {
        device,
        dtype: None,
        allow_non_finite: false,
        device_timeout: HipDevice::DEFAULT_DEADLINE,
    };
    let mut session = Session::open(None, device, &AnswerArgs::of_the_toy())?;
    let known = embedded::questions()?;
    let (question, expected) = known.first().map_or(("", ""), |(question, answer)| (question, answer));
    let (text, _) = session.answer(&[Message::new("user", question)], |_| Ok(()))?;
    let ran = session.report().where_it_ran;
    Ok(match text == expected {
        true => (format!("the embedded model answers word for word; it {ran}"), true),
        false => (format!("asked {question:?}, the embedded model answered {text:?}; it {ran}"), false),
    })
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
