//! Runs cases: on the CPU against truth, on every device against the CPU, bit for bit.

use std::collections::HashMap;
use std::sync::Arc;

use device_mem::{DType, Device, DeviceBuffer, Float, RanOn};
use half::{bf16, f16};
use kernels_rope::{
    RopeError, RopeSpec, RopeTable, apply_position_embeddings, apply_position_embeddings_append, apply_rope,
};
use parity::{Gpu, Number, Suite, Tally, Tolerance, compare, named_devices};

use crate::cases::{Case, Form, Values};
use crate::operands::{Operands, UNTOUCHED, heads, positions};
use crate::truth::{Errors, Truth};

/// The least NMSE that an f32 case may miss, at any position.
const NMSE: f64 = 1e-14;

/// A case that is to run, with its name and the devices that it runs on besides the CPU.
pub(crate) struct Job<'a> {
    pub(crate) case: &'a Case,
    pub(crate) name: &'a str,
    pub(crate) on: Vec<bool>,
}

/// Runs the jobs on as many threads as there are cores. Those that one table serves follow each other.
pub(crate) fn run(suite: &Suite, jobs: &[Job<'_>], names: &[String]) -> Tally {
    let groups = by_table(jobs);
    let mut tally = Tally::new(names.to_vec());
    let run = |worker: &mut Worker<'_>, group: usize| worker.group(&groups[group]);
    tally.share_out(groups.len(), || Worker::new(suite, names), run, |worker| worker.tally);
    tally
}

/// Jobs of the same table, the largest tables first.
fn by_table<'a, 'b>(jobs: &'b [Job<'a>]) -> Vec<Vec<&'b Job<'a>>> {
    let mut groups: HashMap<_, Vec<_>> = HashMap::new();
    for job in jobs {
        groups.entry((Arc::as_ptr(&job.case.rotary), job.case.length)).or_default().push(job);
    }
    let mut groups = groups.into_values().collect::<Vec<_>>();
    let size = |group: &[&Job<'_>]| {
        let Case { rotary, length, .. } = group[0].case;
        u64::from(rotary.config.rotary_dim) * u64::from(*length)
    };
    groups.sort_by_key(|group| std::cmp::Reverse((size(group), group.len(), group[0].name)));
    groups
}

struct Worker<'a> {
    suite: &'a Suite,
    devices: Vec<Gpu>,
    tally: Tally,
}

/// What an operation leaves: both tensors, and keys and values of the cache.
struct Outcome<T: Float, C: Float> {
    q: Vec<T>,
    k: Vec<T>,
    cache: [Vec<C>; 2],
}

impl<'a> Worker<'a> {
    fn new(suite: &'a Suite, names: &[String]) -> Worker<'a> {
        let devices = named_devices().unwrap().into_iter().map(|(_, device)| device).collect();
        Worker { suite, devices, tally: Tally::new(names.to_vec()) }
    }

    fn group(&mut self, jobs: &[&Job<'_>]) {
        let Case { rotary, length, .. } = jobs[0].case;
        let spec = RopeSpec::new(rotary.config.clone()).unwrap();
        let truth = Truth::new(rotary, *length);
        let on_cpu = RopeTable::new(&spec, *length, &Device::Cpu).unwrap();
        let table = |(index, device): (usize, &Gpu)| {
            let wanted = jobs.iter().any(|job| job.on[index]);
            wanted.then(|| RopeTable::new(&spec, *length, device).unwrap())
        };
        let tables = self.devices.iter().enumerate().map(table).collect::<Vec<_>>();
        for job in jobs {
            let run = match job.case.dtype {
                DType::F32 => Worker::of_type::<f32>,
                DType::F16 => Worker::of_type::<f16>,
                _ => Worker::of_type::<bf16>,
            };
            if let Err(what) = run(self, job, &truth, &on_cpu, &tables) {
                self.tally.failed(self.suite.failure(job.name, &what));
            }
        }
    }

    fn of_type<T: Float + Number>(
        &mut self,
        job: &Job<'_>,
        truth: &Truth,
        on_cpu: &RopeTable,
        tables: &[Option<RopeTable>],
    ) -> Result<(), String> {
        let run = match job.case.form {
            Form::Append(DType::F32, _) => Worker::of_types::<T, f32>,
            Form::Append(DType::F16, _) => Worker::of_types::<T, f16>,
            Form::Append(DType::BF16, _) => Worker::of_types::<T, bf16>,
            _ => Worker::of_types::<T, T>,
        };
        run(self, job, truth, on_cpu, tables)
    }

    fn of_types<T: Float + Number, C: Float + Number>(
        &mut self,
        job: &Job<'_>,
        truth: &Truth,
        on_cpu: &RopeTable,
        tables: &[Option<RopeTable>],
    ) -> Result<(), String> {
        let case = job.case;
        let axes = on_cpu.spec().axes().count();
        let operands = Operands::<T>::new(case, axes, self.suite.case_seed(job.name));
        let cpu = on_device::<T, C>(case, on_cpu, &operands).map_err(|what| format!("cpu: {what}"))?;
        let errors = against_truth(case, truth, &operands, &cpu).map_err(|what| format!("cpu: {what}"))?;
        // Of narrower types the rounding of the result alone takes up half an ulp.
        if case.dtype == DType::F32 && case.values == Values::Uniform {
            self.tally.share(errors.worst_share);
        }
        self.tally.passed(0);
        for (index, table) in tables.iter().enumerate() {
            let Some(table) = table.as_ref().filter(|_| job.on[index]) else {
                self.tally.not_run(index + 1);
                continue;
            };
            let device = on_device::<T, C>(case, table, &operands).and_then(|device| same(&cpu, &device));
            device.map_err(|what| format!("{}: {what}", table.device()))?;
            self.tally.passed(index + 1);
        }
        Ok(())
    }
}

/// Runs the operation where the table is, and asserts that it ran there, in one launch that moved nothing else.
fn on_device<T: Float, C: Float>(
    case: &Case,
    table: &RopeTable,
    operands: &Operands<T>,
) -> Result<Outcome<T, C>, String> {
    let device = table.device();
    let (ran_on, launches, outcome) =
        apply::<T, C>(case, table, operands).map_err(|error| format!("refused: {error}"))?;
    let (expected_on, expected) = match device {
        Device::Cpu => (RanOn::Cpu, 0),
        Device::Hip(_) => (RanOn::Hip, u64::from(case.launches())),
    };
    if ran_on != expected_on {
        return Err(format!("it ran on {ran_on}"));
    }
    if launches != Some(expected) {
        return Err(format!("expected {expected} launches and nothing else, got {launches:?}"));
    }
    Ok(outcome)
}

/// Where it ran, its launches (`None` when something was copied, allocated or waited for as well), and what it left.
#[expect(clippy::type_complexity, reason = "the three results of one call")]
fn apply<T: Float, C: Float>(
    case: &Case,
    table: &RopeTable,
    operands: &Operands<T>,
) -> Result<(RanOn, Option<u64>, Outcome<T, C>), RopeError> {
    let device = table.device();
    let at = positions(case, table, &operands.positions)?;
    let mut q = DeviceBuffer::from_host_vec(device, operands.q.clone())?;
    let mut k = DeviceBuffer::from_host_vec(device, operands.k.clone())?;
    let v = DeviceBuffer::from_host_vec(device, operands.v.clone())?;
    let cache_len = operands.cache.as_ref().map_or(0, crate::operands::CachePlan::len);
    let untouched = || DeviceBuffer::from_host_vec(device, vec![C::from_f32(UNTOUCHED); cache_len]);
    let (mut keys, mut values) = (untouched()?, untouched()?);
    let q_heads = heads(&mut q, &operands.q_place)?;
    let counted = |run: &mut dyn FnMut() -> Result<RanOn, RopeError>| {
        let mut before = device.transfers();
        let ran_on = run()?;
        let after = device.transfers();
        let launches = after.launches - before.launches;
        before.launches = after.launches;
        Ok((ran_on, (before == after).then_some(launches)))
    };
    let mut q_heads = Some(q_heads);
    let mut take_q = || q_heads.take().unwrap();
    let (ran_on, launches) = match (&case.form, &operands.cache) {
        (Form::Rotate, _) => counted(&mut || apply_rope(table, take_q(), &at)),
        (_, None) => {
            let mut k_heads = Some(heads(&mut k, &operands.k_place)?);
            counted(&mut || apply_position_embeddings(table, take_q(), k_heads.take().unwrap(), &at))
        }
        (_, Some(plan)) => {
            let mut k_heads = Some(heads(&mut k, &operands.k_place)?);
            plan.with_append(device, &v, [&mut keys, &mut values], |append| {
                let mut append = Some(append);
                counted(&mut || {
                    let append = append.take().unwrap();
                    apply_position_embeddings_append(table, take_q(), k_heads.take().unwrap(), append, &at)
                })
            })
        }
    }?;
    let cache = [keys.to_host_vec()?, values.to_host_vec()?];
    Ok((ran_on, launches, Outcome { q: q.to_host_vec()?, k: k.to_host_vec()?, cache }))
}

/// Holds what the CPU left to truth: rotated rows to their bound, the cache to the rows that were appended, the rest to its
/// bits.
fn against_truth<T: Float + Number, C: Float + Number>(
    case: &Case,
    truth: &Truth,
    operands: &Operands<T>,
    outcome: &Outcome<T, C>,
) -> Result<Errors, String> {
    let rows = truth.rows(&operands.positions);
    let check = |before: &[T], got: &[T], place| {
        if case.inverse {
            let (before, got) = (truth.exchanged(before, place), truth.exchanged(got, place));
            truth.check(&before, &got, place, &rows, true)
        } else {
            truth.check(before, got, place, &rows, false)
        }
    };
    let mut errors =
        check(&operands.q, &outcome.q, &operands.q_place).map_err(|what| format!("x or q: {what}"))?;
    errors.add(check(&operands.k, &outcome.k, &operands.k_place).map_err(|what| format!("k: {what}"))?);
    if case.dtype == DType::F32 && case.values == Values::Uniform && errors.nmse() > NMSE {
        return Err(format!("normalised mean square error {:e} is above {NMSE:e}", errors.nmse()));
    }
    if let Some(plan) = &operands.cache {
        let mut expected = [(); 2].map(|()| vec![C::from_f32(UNTOUCHED); plan.len()]);
        let head_dim = case.rotary.config.head_dim as usize;
        let kv_heads = case.kv_heads as usize;
        for (index, (token, k_row)) in operands.k_place.rows().enumerate() {
            let to = plan.row(token, index % kv_heads.max(1));
            for element in 0..head_dim {
                expected[0][to + element] = C::from_f32(outcome.k[k_row + element].to_f32());
                expected[1][to + element] = C::from_f32(operands.v[index * head_dim + element].to_f32());
            }
        }
        for ((expected, got), what) in expected.iter().zip(&outcome.cache).zip(["keys", "values"]) {
            same_bits(expected, got).map_err(|mismatch| format!("{what} of the cache: {mismatch}"))?;
        }
    }
    Ok(errors)
}

/// What a device leaves is what the CPU leaves, bit for bit, NaN's payload aside.
fn same<T: Float + Number, C: Float + Number>(
    cpu: &Outcome<T, C>,
    device: &Outcome<T, C>,
) -> Result<(), String> {
    same_bits(&cpu.q, &device.q).map_err(|mismatch| format!("x or q is not the CPU's: {mismatch}"))?;
    same_bits(&cpu.k, &device.k).map_err(|mismatch| format!("k is not the CPU's: {mismatch}"))?;
    for ((cpu, device), what) in cpu.cache.iter().zip(&device.cache).zip(["keys", "values"]) {
        same_bits(cpu, device)
            .map_err(|mismatch| format!("{what} of the cache are not the CPU's: {mismatch}"))?;
    }
    Ok(())
}

fn same_bits<T: Float + Number>(expected: &[T], got: &[T]) -> Result<(), String> {
    let equal = |(expected, got): (&T, &T)| {
        let (expected, got) = (expected.to_f32(), got.to_f32());
        expected.to_bits() == got.to_bits() || (expected.is_nan() && got.is_nan())
    };
    if expected.len() == got.len() && expected.iter().zip(got).all(equal) {
        return Ok(());
    }
    compare(expected, got, Tolerance::Bits).map(|_| ()).map_err(|mismatch| mismatch.to_string())
}
