//! What must hold at a point, and what did not.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use anyhow::Result;
use device_mem::RanOn;
use hip_ffi::faults::{self, Met, Mode};
use hip_ffi::{ErrorClass, HipError};
use model_glm::TokenId;
use serde::Serialize;

use crate::points::Point;
use crate::sites::Phase;
use crate::subject::{Answer, Subject};

/// How long a wait for the device may last.
pub(crate) const DEADLINE: Duration = Duration::from_millis(5);
/// What a point may take beyond that, on a machine that does other things too.
const SLACK: Duration = Duration::from_secs(20);

/// What is counted over points. All but the first three should be 0.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Tally {
    pub(crate) points: usize,
    /// Points whose answer the CPU ended.
    pub(crate) ended_on_cpu: usize,
    /// Points at which the device went on.
    pub(crate) stayed: usize,
    pub(crate) wrong_answers: usize,
    pub(crate) tokens_lost_or_doubled: usize,
    pub(crate) leaks: usize,
    pub(crate) panics: usize,
    pub(crate) waits_past_deadline: usize,
    pub(crate) calls_after_loss: usize,
    /// Freed memory that a late copy has written.
    pub(crate) late_writes: usize,
    /// Faults that the run did not come to.
    pub(crate) not_met: usize,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Tally) {
        let Tally { points, ended_on_cpu, stayed, .. } = other;
        self.points += points;
        self.ended_on_cpu += ended_on_cpu;
        self.stayed += stayed;
        for (own, (_, others)) in self.faults_mut().into_iter().zip(other.faults()) {
            *own += others;
        }
    }

    /// What should be 0, with its name.
    pub(crate) fn faults(&self) -> [(&'static str, usize); 8] {
        [
            ("wrong answers", self.wrong_answers),
            ("tokens lost or doubled", self.tokens_lost_or_doubled),
            ("leaks", self.leaks),
            ("panics", self.panics),
            ("waits past the deadline", self.waits_past_deadline),
            ("calls after a loss", self.calls_after_loss),
            ("late writes", self.late_writes),
            ("not met", self.not_met),
        ]
    }

    fn faults_mut(&mut self) -> [&mut usize; 8] {
        [
            &mut self.wrong_answers,
            &mut self.tokens_lost_or_doubled,
            &mut self.leaks,
            &mut self.panics,
            &mut self.waits_past_deadline,
            &mut self.calls_after_loss,
            &mut self.late_writes,
            &mut self.not_met,
        ]
    }
}

type Ran = std::thread::Result<Result<(Option<Answer>, Met)>>;

/// Runs a point, and tells how long it took.
fn run(subject: &Subject, point: &Point) -> (Ran, Duration) {
    let start = Instant::now();
    let ran = catch_unwind(AssertUnwindSafe(|| match point.phase {
        Phase::Doctor => subject.examine(Some(point.fault)).map(|met| (None, met)),
        _ => subject.answer(Some(point.fault), DEADLINE).map(|mut answer| {
            let met = std::mem::take(&mut answer.met);
            (Some(answer), met)
        }),
    }));
    (ran, start.elapsed())
}

/// Runs a point and judges it. `whole` is the answer without a fault.
pub(crate) fn judge(subject: &Subject, point: &Point, whole: &[TokenId]) -> Result<Tally> {
    let (ran, mut took) = run(subject, point);
    if took > DEADLINE + SLACK {
        // A machine that stops the process for as long does not do so twice.
        took = run(subject, point).1;
    }
    let Ok(ran) = ran else { return Ok(Tally { points: 1, panics: 1, ..Tally::default() }) };
    let (answer, met) = ran?;
    let mut tally = of_calls(point, &met);
    tally.points = 1;
    tally.waits_past_deadline = usize::from(!met.blocked.is_empty() || took > DEADLINE + SLACK);
    tally.late_writes = usize::from(late_copies_corrupt());
    if let Some(answer) = answer {
        let stayed = answer.ran_on == RanOn::Hip;
        (tally.stayed, tally.ended_on_cpu) = (usize::from(stayed), usize::from(!stayed));
        tally.tokens_lost_or_doubled = usize::from(answer.told != answer.tokens);
        tally.wrong_answers = usize::from(!is_right(subject, &answer, whole)?);
    }
    Ok(tally)
}

/// Whether the tokens are those of the device and then of the CPU.
fn is_right(subject: &Subject, answer: &Answer, whole: &[TokenId]) -> Result<bool> {
    let Answer { tokens, ran_on, failed_after, .. } = answer;
    let of_device = match (ran_on, failed_after) {
        (RanOn::Hip, _) => whole.len(),
        (_, Some(tokens)) => *tokens,
        (_, None) => 0,
    };
    let expected = match whole.get(..of_device) {
        Some(whole) if of_device == tokens.len() => whole.to_vec(),
        Some(beginning) => [beginning, &subject.on_cpu(beginning)?].concat(),
        None => return Ok(false),
    };
    Ok(*tokens == expected)
}

/// What the calls of a run say about it.
fn of_calls(point: &Point, met: &Met) -> Tally {
    let fault = point.fault;
    // A late code comes from another call than the one that was planned to fail.
    let told_by = met.told_at.and_then(|at| met.calls.get(at - 1)).copied();
    let call = told_by.unwrap_or(fault.call);
    let class = HipError { call, code: fault.code, name: String::new(), meaning: String::new() };
    let is_loss = class.class() == ErrorClass::Lost;
    // What a lost device held is left to the end of the process.
    let is_lost = fault.mode == Mode::Hang || (is_loss && met.told_at.is_some());
    let leaks = !met.strange.is_empty() || (!is_lost && !met.held.is_empty());
    let after_loss =
        is_loss && fault.mode != Mode::Hang && met.told_at.is_some_and(|at| at < met.calls.len());
    // A late error that nothing asks for after it is none.
    let met_it = met.fault_at.is_some();
    Tally {
        leaks: usize::from(leaks),
        calls_after_loss: usize::from(after_loss),
        not_met: usize::from(!met_it),
        ..Tally::default()
    }
}

/// Lets late copies end, and tells whether they wrote memory that was given back: blocks of the sizes that they may have would
/// hold it.
fn late_copies_corrupt() -> bool {
    let blocks: Vec<Vec<u8>> = (0..64).map(|index| vec![0x55; 4 << (index % 8)]).collect();
    if faults::end_late_copies() == 0 {
        return false;
    }
    blocks.iter().flatten().any(|byte| *byte != 0x55)
}

/// Rows of the table: what was counted in a phase with a mode.
pub(crate) type Rows = BTreeMap<(Phase, &'static str), Tally>;

/// A mode as the table names it.
pub(crate) fn name(mode: Mode) -> &'static str {
    match mode {
        Mode::Once => "once",
        Mode::Sticky => "sticky",
        Mode::Part => "partial",
        Mode::Late => "late",
        Mode::Hang => "hang",
        Mode::Cleanup => "cleanup",
        _ => "other",
    }
}
