//! `glm dump` on the golden checkpoints, against transformers and an independent f64 reference, on the CPU and on emulated
//! cards of every kind, which check the kernels as they run.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

mod common;

use std::path::Path;

use common::{copy_of, edit, glm, golden, outcome, read_json};
use parity::{Golden, Number, Tolerance, compare};
use safetensors::SafeTensors;
use tempfile::TempDir;

/// Checkpoint, and the one whose outputs it must give.
const CHECKPOINTS: [(&str, &str); 3] = [("glm4", "glm4"), ("glm", "glm"), ("chatglm_orig", "glm")];
const LOGITS: f64 = 1e-4;

/// Where it runs: one card of each kind.
const DEVICES: [&str; 7] =
    ["cpu", "emu:gfx1100", "emu:gfx1151", "emu:gfx1201", "emu:gfx1030", "emu:gfx90a", "emu:gfx942"];

/// Each checkpoint, with the one whose outputs it must give, on each device.
fn cases() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    DEVICES.into_iter().flat_map(|device| CHECKPOINTS.map(|(checkpoint, of)| (device, checkpoint, of)))
}

/// A file that `glm dump` wrote.
struct Dump {
    bytes: Vec<u8>,
}

impl Dump {
    fn of(device: &str, model: &Path, sequences: &[Vec<i64>], flags: &[&str]) -> Dump {
        let folder: TempDir = tempfile::tempdir().unwrap();
        let out = folder.path().join("out.safetensors");
        let mut args = vec!["dump", "--model", model.to_str().unwrap(), "--dtype", "f32", "--device", device];
        let ids: Vec<String> = sequences
            .iter()
            .map(|ids| ids.iter().map(i64::to_string).collect::<Vec<_>>().join(","))
            .collect();
        ids.iter().for_each(|ids| args.extend(["--ids", ids]));
        args.extend(["--out", out.to_str().unwrap()]);
        args.extend(flags);
        let checked = ("HIP_EMU_CHECK", "memory,init,race,sync,align");
        let told = outcome(glm().args(&args).env(checked.0, checked.1).output().unwrap()).ok().stderr;
        let place = match device.split_once(':') {
            Some((emu, target)) => format!("ran on {emu}: the kernels of {target}, emulated"),
            None => format!("ran on {device}"),
        };
        assert!(told.contains(&place) && !told.contains("hip-emu:"), "{told}");
        Dump { bytes: std::fs::read(out).unwrap() }
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).unwrap()
    }

    fn f32(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        let tensors = self.tensors();
        let tensor = tensors.tensor(name).unwrap();
        let values = tensor.data().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
        (tensor.shape().to_vec(), values.collect())
    }

    fn i64(&self, name: &str) -> Vec<i64> {
        let tensors = self.tensors();
        let tensor = tensors.tensor(name).unwrap();
        tensor.data().chunks_exact(8).map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap())).collect()
    }
}

fn outputs(checkpoint: &str) -> Golden {
    Golden::open(&format!("{checkpoint}/golden.safetensors")).unwrap()
}

fn near<E: Number>(what: &str, expected: &[E], found: &[f32], bound: f64) {
    compare(expected, found, Tolerance::Absolute(bound))
        .unwrap_or_else(|mismatch| panic!("{what}: {mismatch}"));
}

#[test]
fn logits_and_greedy_continuations_of_every_prompt() {
    for (device, checkpoint, of) in cases() {
        let expected = outputs(of);
        for prompt in ["p0", "p1", "p2"] {
            let ids = expected.i64(&format!("{prompt}.input_ids")).unwrap();
            let dump = Dump::of(device, &golden(checkpoint), std::slice::from_ref(&ids), &["--greedy", "16"]);
            let (shape, logits) = dump.f32("logits");
            assert_eq!(shape, [ids.len(), 256]);
            near(checkpoint, &expected.f64(&format!("{prompt}.logits_f64")).unwrap(), &logits, LOGITS);
            assert_eq!(
                dump.i64("greedy"),
                expected.i64(&format!("{prompt}.greedy")).unwrap(),
                "{checkpoint} {prompt}"
            );
            let rows = expected.f32(&format!("{prompt}.greedy_logits")).unwrap();
            near(checkpoint, &rows, &dump.f32("greedy_logits").1, LOGITS);
        }
    }
}

#[test]
fn layers_under_the_golden_names() {
    for (device, checkpoint, of) in cases() {
        let expected = outputs(of);
        let dump =
            Dump::of(device, &golden(checkpoint), &[expected.i64("p1.input_ids").unwrap()], &["--layers"]);
        let names = expected.names().unwrap();
        let layers =
            names.iter().filter_map(|name| name.strip_prefix("p1.")).filter(|name| !name.contains("greedy"));
        let mut checked = 0;
        for name in layers.filter(|name| !name.starts_with("logits") && *name != "input_ids") {
            let (shape, found) = dump.f32(name);
            let values = expected.f32(&format!("p1.{name}")).unwrap();
            assert_eq!(shape, expected.shape(&format!("p1.{name}")).unwrap(), "{name}");
            // transformers' f32 is itself up to 1.1e-6 of a tensor's largest element from f64 in the rotated heads.
            let share = if name.ends_with("_post") { 2e-6 } else { 4e-6 };
            let largest = values.iter().fold(1.0, |largest: f64, &value| largest.max(f64::from(value.abs())));
            near(&format!("{checkpoint} {name}"), &values, &found, share * largest);
            checked += 1;
        }
        assert!(checked >= 4 + 7 * 2, "{checked} tensors were compared");
    }
}

#[test]
fn a_batch_and_shifted_positions() {
    for (device, checkpoint, of) in cases() {
        let expected = outputs(of);
        let [first, second] =
            ["p0", "p1"].map(|prompt| expected.i64(&format!("{prompt}.input_ids")).unwrap());
        let dump = Dump::of(device, &golden(checkpoint), &[first, second.clone()], &[]);
        let rows = [dump.f32("s0.logits").1, dump.f32("s1.logits").1].concat();
        near(checkpoint, &expected.f32("batch.last_logits").unwrap(), &rows, LOGITS);
        for (offset, bound) in [("4096", LOGITS), ("131072", 2e-2)] {
            let dump = Dump::of(
                device,
                &golden(checkpoint),
                std::slice::from_ref(&second),
                &["--first-position", offset],
            );
            let logits = dump.f32("logits").1;
            let last = &logits[logits.len() - 256..];
            near(checkpoint, &expected.f64(&format!("offset{offset}.last_logits_f64")).unwrap(), last, bound);
        }
    }
}

#[test]
fn the_keys_of_transformers_4_and_yarn() {
    for device in DEVICES {
        for checkpoint in ["glm4", "glm"] {
            let expected = outputs(checkpoint);
            let folder = copy_of(&golden(checkpoint));
            std::fs::copy(folder.path().join("config.legacy.json"), folder.path().join("config.json"))
                .unwrap();
            let dump = Dump::of(device, folder.path(), &[expected.i64("p2.input_ids").unwrap()], &[]);
            near(checkpoint, &expected.f64("p2.logits_f64").unwrap(), &dump.f32("logits").1, LOGITS);
        }
        let expected = outputs("glm4");
        let folder = copy_of(&golden("glm4"));
        let yarn = read_json(&folder.path().join("yarn.rope_parameters.json"));
        edit(&folder.path().join("config.json"), |config| config["rope_parameters"] = yarn);
        let dump = Dump::of(device, folder.path(), &[expected.i64("p1.input_ids").unwrap()], &[]);
        near("yarn", &expected.f64("yarn.logits_f64").unwrap(), &dump.f32("logits").1, LOGITS);
    }
}
