//! The program `hip-emu`, as a shell runs it.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::{
    fs,
    process::{Command, Output},
};

use serde_json::{Value, json};

const AXPY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/axpy.gfx1100.hsaco");

/// `hip-emu run` with one group of 64 items of `kernel`, and more.
fn run(kernel: &str, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hip-emu"));
    command.args(["run", AXPY, "--kernel", kernel, "--grid", "1", "--block", "64"]);
    command.args(more).output().unwrap()
}

/// As [`run`], with an `--arg` before each.
fn run_with(kernel: &str, arguments: &[&str]) -> Output {
    let arguments: Vec<&str> = arguments.iter().flat_map(|&argument| ["--arg", argument]).collect();
    run(kernel, &arguments)
}

fn printed(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn complaint(output: Output) -> String {
    assert!(!output.status.success() && output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn numbers_on_the_command_line_come_back_computed() {
    let text = printed(run_with("axpy_f32", &["inout:f32:1,2,-3", "in:f32:10,0.25,1e3", "f32:0.5", "u32:3"]));
    let (first, rest) = text.split_once('\n').unwrap();
    assert!(first.starts_with("axpy_f32: ") && first.ends_with(" instructions"), "{first}");
    assert_eq!(rest, "argument 0, f32[3]: 6.0, 2.125, 497.0\n");
    let text = printed(run_with("axpy_f16", &["inout:f16:1,2", "in:f16:3,4", "f16:2", "u32:2"]));
    assert!(text.ends_with("argument 0, f16[2]: 7.0, 10.0\n"), "{text}");
}

#[test]
fn files_go_in_and_come_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (x, y): (Vec<f32>, Vec<f32>) =
        (0..1000_u16).map(|i| (f32::from(i) * 0.37 - 5.0, 1.0 / (f32::from(i) + 1.0))).unzip();
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    fs::write(path("x"), bytes(&x)).unwrap();
    fs::write(path("y"), bytes(&y)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hip-emu"));
    command.args(["run", AXPY, "--kernel=axpy_f32", "--grid=4,1,1", "--block=256,1"]);
    command.arg(format!("--arg=inout:f32:@{}={}", path("y"), path("out")));
    command.arg(format!("--arg=in:f32:@{}", path("x"))).args(["--arg=f32:0.75", "--arg=u32:1000"]);
    let text = printed(command.output().unwrap());
    assert!(text.ends_with(&format!("argument 0, f32[1000]: in {}\n", path("out"))), "{text}");
    let expected: Vec<f32> = x.iter().zip(&y).map(|(x, y)| 0.75_f32.mul_add(*x, *y)).collect();
    assert!(fs::read(path("out")).unwrap() == bytes(&expected));
}

#[test]
fn checks_and_counts_are_made_where_they_are_asked_for() {
    // y += x, where nothing was in y.
    let arguments =
        ["--arg=out:f32:11", "--arg=in:f32:1,2,3,4,5,6,7,8,9,10,11", "--arg=f32:1", "--arg=u32:11"];
    let unchecked = printed(run("axpy_f32", &arguments));
    assert!(
        unchecked.ends_with("f32[11]: NaN, NaN, NaN, NaN, NaN, NaN, NaN, NaN, NaN, NaN, NaN\n"),
        "{unchecked}"
    );
    let refused = complaint(run("axpy_f32", &[&arguments[..], &["--check=init"]].concat()));
    assert!(refused.contains("a value stored to memory depends on the byte at"), "{refused}");
    assert!(complaint(run("axpy_f32", &["--check=speed"])).contains("found \"speed\""));

    let written = ["--arg=inout:f32:1,2", "--arg=in:f32:3,4", "--arg=f32:1", "--arg=u32:2"];
    let counted = [&written[..], &["--check=all", "--count"]].concat();
    let text = printed(run("axpy_f32", &counted));
    assert!(
        text.contains("\n            stores.bytes 8\n") && text.contains(" waves_per_simd 16\n"),
        "{text}"
    );
    let json: Value =
        serde_json::from_str(&printed(run("axpy_f32", &[&counted[..], &["--json"]].concat()))).unwrap();
    assert_eq!((&json["counts"]["loads.bytes"], &json["counts"]["waves"]), (&json!(16), &json!(2)), "{json}");
}

#[test]
fn approximate_operations_are_listed_and_moved() {
    const ASSEMBLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/assembled.gfx1100.hsaco");
    let approximate_with = |variable: &str, seed: &str, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hip-emu"));
        command.args(["run", ASSEMBLED, "--kernel=approximate", "--grid=1", "--block=4"]).env(variable, seed);
        command.args(["--arg=out:f32:8", "--arg=in:f32:0.3,0.7,1.1,3"]).args(more);
        command.output().unwrap()
    };
    let approximate = |more: &[&str]| printed(approximate_with("UNUSED", "", more));
    let listed = "operations whose low bits hardware does not specify:\n               v_exp_f32 1\n               v_rcp_f32 1\n";
    let text = approximate(&["--fidelity"]);
    assert!(text.ends_with(listed), "{text}");
    assert!(!approximate(&[]).contains("v_exp_f32"));
    let json: Value = serde_json::from_str(&approximate(&["--fidelity", "--json"])).unwrap();
    assert_eq!(json["approximate"], json!({ "v_exp_f32": 1, "v_rcp_f32": 1 }));
    let moved: Value = serde_json::from_str(&approximate(&["--perturb=3", "--json"])).unwrap();
    let bits = |object: &Value| -> Vec<u32> {
        let values = object["outputs"][0]["values"].as_array().unwrap();
        values.iter().map(|value| value.to_string().parse::<f32>().unwrap().to_bits()).collect()
    };
    let distances: Vec<u32> =
        bits(&json).into_iter().zip(bits(&moved)).map(|(plain, moved)| plain.abs_diff(moved)).collect();
    assert!(distances.contains(&1) && distances.iter().all(|&distance| distance <= 1), "{distances:?}");
    assert_eq!(
        printed(approximate_with("HIP_EMU_PERTURB", "3", &["--json"])),
        approximate(&["--perturb=3", "--json"])
    );
    let unread = complaint(approximate_with("HIP_EMU_PERTURB", "much", &[]));
    assert!(unread.contains("HIP_EMU_PERTURB is \"much\""), "{unread}");
    let exact = printed(run(
        "axpy_f32",
        &["--arg=inout:f32:1", "--arg=in:f32:1", "--arg=f32:1", "--arg=u32:1", "--fidelity"],
    ));
    assert!(exact.ends_with("no operation ran whose low bits hardware does not specify\n"), "{exact}");
}

#[test]
fn text_is_bounded_and_json_is_not() {
    let arguments = ["--arg=out:f32:70", "--arg=in:f32:1", "--arg=f32:1", "--arg=u32:0"];
    let text = printed(run("axpy_f32", &arguments));
    assert!(text.ends_with(&format!("f32[70]: {}and 38 more\n", "NaN, ".repeat(32))), "{text}");
    let text = printed(run("axpy_f32", &[&arguments[..], &["--show=1"]].concat()));
    assert!(text.ends_with("f32[70]: NaN, and 69 more\n"), "{text}");

    let object = |kernel: &str, arguments: &[&str]| -> Value {
        serde_json::from_str(&printed(run(kernel, &[arguments, &["--json"]].concat()))).unwrap()
    };
    let all = object("axpy_f32", &arguments);
    assert_eq!(all["kernel"], "axpy_f32");
    assert!(all["instructions"].as_u64() > Some(0), "{all}");
    assert_eq!(all["outputs"][0]["values"], json!(vec!["NaN"; 70]));
    let arguments = ["--arg=inout:f16:0.5,-1", "--arg=in:f16:1,inf", "--arg=f16:2", "--arg=u32:2"];
    let expected = json!([{"argument": 0, "name": null, "type": "f16", "count": 2, "values": [2.5, "inf"]}]);
    assert_eq!(object("axpy_f16", &arguments)["outputs"], expected);
}

#[test]
fn a_fault_names_kernel_place_and_instruction() {
    let text = complaint(run_with("axpy_f32", &["inout:f32:1,2,3", "in:f32:1,2", "f32:1", "u32:3"]));
    for part in [
        "kernel `axpy_f32`, work-group [0, 0, 0], wave 0, lane 2",
        "pc 0x19",
        "global_load_b32",
        "no allocation",
    ] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    let arguments = ["--arg=null", "--arg=in:f32:1", "--arg=f32:1", "--arg=u32:1"];
    let text = complaint(run("axpy_f32", &arguments));
    assert!(text.contains("at 0x0, in no allocation"), "{text}");
    let text = complaint(run("axpy_f32", &[&arguments[..], &["--lds=65537"]].concat()));
    assert!(text.contains("65537 bytes of LDS"), "{text}");
}

#[test]
fn what_does_not_fit_the_kernel_is_listed() {
    let text = complaint(run_with("axpy_f32", &["inout:f32:1", "in:f32:1", "f32:1"]));
    assert!(text.contains("kernel `axpy_f32` takes 4 arguments, 3 were given"), "{text}");
    assert!(
        text.contains("1: `<no name>` (GlobalBuffer) at 8, 8 bytes: in:, out:, inout: or null"),
        "{text}"
    );
    assert!(text.contains("3: `<no name>` (ByValue) at 20, 4 bytes: i32:, u32:, f32: or bytes:"), "{text}");
    for (index, wrong) in [(0, "u64:4096"), (1, "f32:1"), (2, "f64:1"), (3, "in:u32:1")] {
        let mut arguments = ["inout:f32:1", "in:f32:1", "f32:1", "u32:1"];
        arguments[index] = wrong;
        let text = complaint(run_with("axpy_f32", &arguments));
        assert!(text.contains(&format!("another argument {index} ")), "{text}");
    }
    let text = complaint(run_with("axpy_f32", &["inout:f32:1", "in:f32:one", "f32:1", "u32:1"]));
    assert!(text.contains("`one` is no f32"), "{text}");
    let text = complaint(run_with("axpy_f32", &["inout:f32:1", "in:f32:@nowhere/x", "f32:1", "u32:1"]));
    assert!(text.contains("cannot read nowhere/x"), "{text}");
}

#[test]
fn a_kernel_that_is_not_there_lists_those_that_are() {
    let text = complaint(run("axpy_f64", &[]));
    assert!(text.contains("no kernel `axpy_f64`; it has axpy_f32, axpy_f16"), "{text}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_hip-emu"));
    let text = complaint(command.args(["run", AXPY, "--grid=1", "--block=1"]).output().unwrap());
    assert!(text.contains("give --kernel: the code object has axpy_f32, axpy_f16"), "{text}");
    let sizes = complaint(run("axpy_f32", &["--lds=x"]));
    assert!(sizes.contains("--lds"), "{sizes}");
}

#[test]
fn the_help_tells_the_forms() {
    let output = Command::new(env!("CARGO_BIN_EXE_hip-emu")).args(["run", "--help"]).output().unwrap();
    let text = printed(output);
    for part in
        ["Work-groups in x, y and z", "out:TYPE:COUNT[=FILE]", "hip-emu run axpy.hsaco --kernel axpy_f32"]
    {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

#[test]
fn a_compressed_bundle_is_shown_as_the_object_in_it() {
    let print = |verb: &str, file: &str| {
        printed(Command::new(env!("CARGO_BIN_EXE_hip-emu")).args([verb, file]).output().unwrap())
    };
    let bundle = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/axpy.ccob");
    for verb in ["info", "disasm"] {
        assert_eq!(print(verb, bundle), print(verb, AXPY));
    }
}

#[test]
fn the_card_is_the_one_that_the_object_is_for() {
    // Two pairs, at a distance of 2, by their cosines and sines.
    let arguments = [
        "inout:f32:1,2,3,4,5,6",
        "in:f32:0.5,0.25",
        "in:f32:2,-1",
        "in:u32:0",
        "in:u32:0,0",
        "u64:6",
        "u64:6",
        "u32:1",
        "u32:1",
        "u32:4",
        "u32:2",
    ];
    let rope = |arch: &str, arguments: &[&str]| {
        let image = format!("{}/../kernels-rope/hsaco/{arch}/rope_kernel.hsaco", env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_hip-emu"));
        command.env_remove("HIP_EMU_ARCH").args(["run", &image, "--kernel=rope_f32"]);
        command.args(["--grid=1", "--block=32"]).args(arguments.iter().map(|one| format!("--arg={one}")));
        command.output().unwrap()
    };
    for arch in ["gfx1100", "gfx1101", "gfx11-generic", "gfx1201", "gfx1030", "gfx90a", "gfx942"] {
        let text = printed(rope(arch, &arguments));
        assert!(text.ends_with("argument 0 `x`, f32[6]: -5.5, 4.5, 3.5, -1.0, 5.0, 6.0\n"), "{arch}: {text}");
    }
    let text = complaint(rope("gfx1100", &arguments[..9]));
    assert!(text.contains("10: `pair_span` (ByValue) at 68, 4 bytes: i32:, u32:, f32: or bytes:"), "{text}");
}
