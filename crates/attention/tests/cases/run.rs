//! Runs one case on the CPU and on every device, and holds each to f64.

use std::collections::BTreeMap;

use attention::{AttentionError, KvCache, MAX_HIP_HEAD_DIM};
use device_mem::Device;
use parity::{Gpu, Suite, Tally, Tolerance, compare, matrix_units, named_devices};

use crate::common::{Pass, cache, paged, shape};
use crate::list::{Case, Values};
use crate::truth::{Exact, Order};

/// Every element within the form of the bound that always holds, and all within its mean square error.
const ALWAYS: &str = "worst-case form";
/// Every element within the form that holds if roundings are independent.
const PROBABLE: &str = "probable form";

/// Runs cases one after another, on devices of its own.
pub(crate) struct Worker<'a> {
    suite: &'a Suite,
    devices: Vec<(String, Gpu)>,
    pub(crate) tally: Tally,
}

impl<'a> Worker<'a> {
    pub(crate) fn new(suite: &'a Suite) -> Worker<'a> {
        let devices = named_devices().unwrap();
        let names = Vec::from_iter(devices.iter().map(|(name, _)| name.clone()));
        Worker { suite, devices, tally: Tally::new([vec!["cpu".to_owned()], names].concat()) }
    }

    /// Runs a case on the CPU and on the devices that are wanted by name.
    pub(crate) fn run(&mut self, case: &Case, name: &str, wanted: impl Fn(&str) -> bool) {
        let seed = self.suite.case_seed(name);
        // Where independent roundings do not explain a result, other data must: else it is a fault.
        let again = || self.checked(case, seed.rotate_left(32), &wanted);
        let found = match self.checked(case, seed, &wanted) {
            Err((PROBABLE, _)) => again(),
            found => found,
        };
        match found {
            Ok(ran) => {
                for (device, ran) in ran.into_iter().enumerate() {
                    if ran { self.tally.passed(device) } else { self.tally.not_run(device) }
                }
            }
            Err((_, what)) => self.tally.failed(self.suite.failure(name, &what)),
        }
    }

    /// On which of the CPU and the devices it ran, or which bound it missed and how.
    fn checked(
        &self,
        case: &Case,
        seed: u64,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<bool>, (&'static str, String)> {
        let pass = pass(case, seed);
        let exact = |order| pass.exact_from(case.before, case.dtype, order);
        within("cpu", &exact(Order::Cpu), Order::Cpu, &attended(case, &pass, &Device::Cpu))?;
        let order = Order::hip(case.dtype, pass.shape, case.tokens);
        let exact = exact(order);
        let mut ran = vec![true];
        // Devices with the same matrix units give the same bits, and so do those without.
        let mut bits: BTreeMap<Option<&str>, Vec<f32>> = BTreeMap::new();
        for (name, device) in &self.devices {
            let runs = wanted(name) && !refused(case, device);
            ran.push(runs);
            if !runs {
                continue;
            }
            let got = attended(case, &pass, device);
            within(name, &exact, order, &got)?;
            let first = bits.entry(matrix_units(device)).or_insert_with(|| got.clone());
            compare(first, &got, Tolerance::Bits)
                .map_err(|mismatch| (ALWAYS, format!("{name} and another device: {mismatch}")))?;
        }
        Ok(ran)
    }
}

/// The tokens of the cache and of the pass.
fn pass(case: &Case, seed: u64) -> Pass {
    let shape = shape(case.q_heads, case.kv_heads, case.head_dim);
    let mut pass = Pass { prefix: case.prefix, ..Pass::new(seed >> 2, shape, case.end(), case.q_scale) };
    if let Values::OfKeys(width) = case.values {
        pass.v.clone_from(&pass.k);
        let heads = pass.v.chunks_exact_mut(case.head_dim as usize);
        heads.for_each(|head| head[width as usize..].fill(0.0));
    }
    pass
}

/// Attends on a device what the pass has behind `before`.
fn attended(case: &Case, pass: &Pass, device: &Device) -> Vec<f32> {
    let mut cache = match case.block {
        None => cache(device, pass.shape, case.end(), case.dtype),
        Some(block) => paged(device, pass.shape, case.end(), block, case.dtype),
    };
    if case.before > 0 {
        pass.tokens(0, case.before).append_only(&mut cache);
    }
    pass.tokens(case.before, case.end()).run(&mut cache)
}

/// Heads that a card does not take are refused there, and not attended.
fn refused(case: &Case, device: &Device) -> bool {
    let wide = case.head_dim > MAX_HIP_HEAD_DIM;
    if wide {
        let shape = shape(case.q_heads, case.kv_heads, case.head_dim);
        let cache = KvCache::new(device, 1, shape, case.end(), case.dtype);
        assert!(matches!(cache, Err(AttentionError::HeadDim { .. })), "{device} took {shape}");
    }
    wide
}

fn within(device: &str, exact: &Exact, order: Order, got: &[f32]) -> Result<(), (&'static str, String)> {
    let missed = |form| move |mismatch| (form, format!("{device}, {form}: {mismatch}"));
    compare(&exact.out, got, Tolerance::Elementwise(&exact.worst)).map_err(missed(ALWAYS))?;
    compare(&exact.out, got, Tolerance::Nmse(exact.most_nmse(order))).map_err(missed(ALWAYS))?;
    compare(&exact.out, got, Tolerance::Elementwise(&exact.probable)).map_err(missed(PROBABLE))?;
    Ok(())
}
