//! How long an operation takes on a device, launched back to back as a graph.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use device_mem::{Device, Graph, HipDevice, MemError};

use crate::cases::{Case, Operation};

/// Bytes that the operands of all copies of a case have at least, so that a cache does not keep them.
const WORKING_SET: usize = 256 << 20;
const MOST_COPIES: usize = 64;
/// Seconds of one sample, and the most runs in it.
const SAMPLE: f64 = 0.02;
const MOST_RUNS: f64 = 2000.0;
const SAMPLES: usize = 7;

/// What was found of a case.
pub(crate) struct Timed {
    /// Of one run, the middle of the samples.
    pub(crate) seconds: f64,
    /// The least and the most.
    pub(crate) range: [f64; 2],
    /// Whether the runs of a sample were one graph.
    pub(crate) is_graph: bool,
    /// Sets of operands that were used in turn.
    pub(crate) copies: usize,
}

/// Runs a case until its time is known.
pub(crate) fn time(case: &Case, hip: &Arc<HipDevice>) -> Result<Timed> {
    let device = Device::Hip(hip.clone());
    let copies = WORKING_SET.div_ceil(case.bytes.max(1)).clamp(1, MOST_COPIES);
    let mut operations = (0..copies).map(|_| (case.prepare)(&device)).collect::<Result<Vec<Operation>>>()?;
    // Loads the kernels.
    round(&mut operations, 1)?;
    hip.synchronize()?;
    let once = seconds(hip, || round(&mut operations, 1))?;
    let rounds = rounds(once, copies);
    let graph = match Graph::record(hip, || round(&mut operations, rounds)) {
        Ok(graph) => Some(graph),
        // It allocates what it computes in.
        Err(error) if matches!(error.downcast_ref(), Some(MemError::Recording { .. })) => None,
        Err(error) if format!("{error:#}").contains("recording a graph") => None,
        Err(error) => return Err(error),
    };
    let mut sample = || match &graph {
        Some(graph) => seconds(hip, || Ok(graph.launch()?)),
        None => seconds(hip, || round(&mut operations, rounds)),
    };
    sample()?;
    let mut samples = (0..SAMPLES).map(|_| sample()).collect::<Result<Vec<f64>>>()?;
    samples.sort_by(f64::total_cmp);
    let of_one = |sample: f64| sample / (rounds * copies) as f64;
    let (least, middle, most) = (samples[0], samples[SAMPLES / 2], samples[SAMPLES - 1]);
    Ok(Timed {
        seconds: of_one(middle),
        range: [of_one(least), of_one(most)],
        is_graph: graph.is_some(),
        copies,
    })
}

fn rounds(once: f64, copies: usize) -> usize {
    let most = (MOST_RUNS / copies as f64).max(1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and the most")]
    let rounds = (SAMPLE / once).ceil().clamp(1.0, most) as usize;
    rounds
}

/// Every copy of the operation, so often.
fn round(operations: &mut [Operation], rounds: usize) -> Result<()> {
    for _ in 0..rounds {
        operations.iter_mut().try_for_each(|operation| operation())?;
    }
    Ok(())
}

/// Seconds from the first launch until the last is done.
fn seconds(hip: &Arc<HipDevice>, run: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    run()?;
    hip.synchronize()?;
    Ok(start.elapsed().as_secs_f64())
}
