//! 40 files of safetensors.

use std::fs::{self, File};
use std::process::Command;

use model_glm::{GlmError, GlmWeights, SafetensorsError as Bad};
use tempfile::TempDir;

use crate::case::{Case, Input, Outcome, says};

/// A whole file: the header's length, the header, and as many bytes behind it.
pub(crate) fn file(header: &str, data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; data]].concat()
}

/// A file of one tensor `a` with these fields.
fn of(fields: &str, data: usize) -> Vec<u8> {
    file(&format!(r#"{{"a":{{{fields}}}}}"#), data)
}

const A: &str = r#""a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}"#;

fn good() -> Vec<u8> {
    file(&format!("{{{A}}}"), 16)
}

/// A good file that claims another length of its header.
fn claims(length: u64) -> Vec<u8> {
    [&length.to_le_bytes(), &good()[8..]].concat()
}

/// Two tensors of 4 bytes at these offsets, of 8 bytes.
fn two(first: [u32; 2], second: [u32; 2]) -> Vec<u8> {
    let one = |name: &str, offsets: [u32; 2]| {
        format!(r#""{name}":{{"dtype":"F32","shape":[1],"data_offsets":{offsets:?}}}"#)
    };
    file(&format!("{{{},{}}}", one("a", first), one("b", second)), 8)
}

fn shaped(shape: &str) -> Vec<u8> {
    of(&format!(r#""dtype":"F32","shape":{shape},"data_offsets":[0,16]"#), 16)
}

fn named(name: &str) -> Vec<u8> {
    file(&format!("{{{}}}", A.replacen("\"a\"", name, 1)), 16)
}

fn many(tensors: usize) -> Vec<u8> {
    let one = |at: usize| {
        format!(r#""model.layers.{at}.weight":{{"dtype":"U8","shape":[1],"data_offsets":[{at},{}]}}"#, at + 1)
    };
    let header = (0..tensors).map(one).collect::<Vec<_>>().join(",");
    file(&format!("{{{header}}}"), tensors)
}

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";

fn index(weight_map: &str) -> String {
    format!(r#"{{"weight_map": {weight_map}}}"#)
}

fn read(input: &Input) -> Outcome {
    GlmWeights::from_bytes(input.bytes().to_vec()).map(drop)
}

fn open(input: &Input) -> Outcome {
    GlmWeights::open(input.folder()).map(drop)
}

/// Opens a file, cuts it, and reads what was behind the cut.
fn cut_while_open(input: &Input) -> Outcome {
    crate::open::forward_after(input.folder(), |file| {
        let file = File::options().write(true).open(file).unwrap();
        file.set_len(4096).unwrap();
    })
}

macro_rules! bad {
    ($name:literal, $file:expr, $pattern:pat $(if $guard:expr)?) => {
        refused!($name, $file, read, GlmError::Safetensors { source: $pattern, .. } $(if $guard)?)
    };
}

/// In the order of the list that they are taken from.
pub(crate) fn cases() -> Vec<Case> {
    vec![
        bad!("an empty file", Vec::new(), Bad::NoHeader { found: 0 }),
        bad!("less than 8 bytes", vec![2, 0, 0, 0, 0, 0, 0], Bad::NoHeader { found: 7 }),
        bad!("a header of no length", claims(0), Bad::HeaderLength { claimed: 0, .. }),
        bad!("a header longer than the file", claims(1 << 20), Bad::HeaderLength { claimed: 0x10_0000, .. }),
        bad!(
            "a header of 100,000,001 bytes",
            claims(100_000_001),
            Bad::HeaderLength { claimed: 100_000_001, .. }
        ),
        bad!("a header of 2^64 - 1 bytes", claims(u64::MAX), Bad::HeaderLength { claimed: u64::MAX, .. }),
        bad!("a header of 2^64 - 8 bytes", claims(u64::MAX - 7), Bad::HeaderLength { left: 72.., .. }),
        bad!(
            "a header that is no UTF-8",
            {
                let mut file = good();
                file[10] = 0xff;
                file
            },
            Bad::NotUtf8 { at: 2 }
        ),
        bad!("a header that is no JSON", file("{not JSON}", 0), Bad::Json(_)),
        bad!("an array at the top", file("[1, 2]", 0), Bad::Start { found: Some('[') }),
        bad!("depth 200", shaped(&format!("{}{}", "[".repeat(200), "]".repeat(200))), Bad::Json(_)),
        bad!("a leading blank", file(&format!(" {{{A}}}"), 16), Bad::Start { found: Some(' ') }),
        bad!("a tensor twice", file(&format!("{{{A},{A}}}"), 16), Bad::Json(error) if error.to_string().contains("\"a\" stands twice")),
        bad!("a field twice", of(r#""dtype":"F32","dtype":"F32","shape":[2,2],"data_offsets":[0,16]"#, 16), Bad::Json(error) if error.to_string().contains("duplicate field `dtype`")),
        bad!("an unknown type", of(r#""dtype":"F33","shape":[4],"data_offsets":[0,16]"#, 16), Bad::Json(error) if error.to_string().contains("unknown variant `F33`")),
        bad!("a field too many", of(r#""dtype":"F32","shape":[4],"data_offsets":[0,16],"stride":[1]"#, 16), Bad::Json(error) if error.to_string().contains("unknown field `stride`")),
        bad!("a negative dimension", shaped("[-1]"), Bad::Json(error) if error.to_string().contains("`-1`")),
        bad!("half a dimension", shaped("[1.5]"), Bad::Json(error) if error.to_string().contains("1.5")),
        bad!("a dimension of 1e308", shaped("[1e308]"), Bad::Json(_)),
        bad!("a product that overflows", shaped("[4294967296,4294967296]"), Bad::Overflow { tensor, .. } if tensor == "a"),
        taken!("a dimension of 0", of(r#""dtype":"F32","shape":[0,4],"data_offsets":[0,0]"#, 0), read),
        bad!("65 dimensions", shaped(&format!("[{}4]", "1,".repeat(64))), Bad::Rank { found: 65, .. }),
        bad!(
            "offsets that are reversed",
            of(r#""dtype":"F32","shape":[4],"data_offsets":[16,0]"#, 16),
            Bad::Offsets { start: 16, end: 0, .. }
        ),
        bad!(
            "offsets out of range",
            of(r#""dtype":"F32","shape":[4],"data_offsets":[16,32]"#, 16),
            Bad::Offsets { end: 32, data: 16, .. }
        ),
        bad!("offsets that overlap", two([0, 4], [0, 4]), Bad::Overlap { first, second } if first == "a" && second == "b"),
        bad!(
            "offsets with a gap",
            {
                let mut file = two([0, 4], [5, 9]);
                file.push(0);
                file
            },
            Bad::Unclaimed { start: 4, end: 5 }
        ),
        bad!(
            "another file behind the tensors",
            [good(), b"PK\x03\x04".to_vec()].concat(),
            Bad::Unclaimed { start: 16, end: 20 }
        ),
        bad!(
            "a size that is not the shape's",
            of(r#""dtype":"F32","shape":[3],"data_offsets":[0,16]"#, 16),
            Bad::Size { expected: 12, found: 16, .. }
        ),
        bad!(
            "an element that ends inside a byte",
            of(r#""dtype":"F4","shape":[3],"data_offsets":[0,1]"#, 1),
            Bad::PartialByte { bits: 12, .. }
        ),
        bad!("metadata that are no texts", file(&format!(r#"{{"__metadata__":{{"a":1}},{A}}}"#), 16), Bad::Json(error) if error.to_string().contains("expected a text")),
        taken!("100,000 tensors", many(100_000), read),
        bad!("a NUL in a name", named(r#""a\u0000b""#), Bad::Name { name } if name == "a\0b"),
        bad!("a name that leads outside", named(r#""../../a""#), Bad::Name { name } if name == "../../a"),
        refused!("a shard outside the folder", folder(&[(INDEX, index(r#"{"a": "../model.safetensors"}"#).as_bytes())]), open, GlmError::ShardEscapes { shard } if shard == "../model.safetensors"),
        refused!("a shard that is missing", folder(&[(INDEX, index(r#"{"a": "b.safetensors"}"#).as_bytes())]), open, GlmError::MissingShard { shard } if shard == "b.safetensors"),
        refused!(
            "one tensor in two shards",
            folder(&[("1", &good()), ("2", &good()), (INDEX, index(r#"{"a": "1", "b": "2"}"#).as_bytes())]),
            open,
            GlmError::DuplicateTensor { tensor, first, second } if (tensor.as_str(), first.as_str(), second.as_str()) == ("a", "1", "2")
        ),
        refused!(
            "a file that is cut while it is open",
            crate::checkpoint::Checkpoint::golden().folder(),
            cut_while_open,
            GlmError::Mem(device_mem::MemError::Torn { path }) if path.ends_with(SINGLE)
        ),
        refused!("a pipe as file", {
            let folder = folder(&[]);
            assert!(Command::new("mkfifo").arg(folder.path().join(SINGLE)).status().unwrap().success());
            folder
        }, open, error if says(error, "not a regular file")),
        refused!("a folder as file", {
            let folder = folder(&[]);
            fs::create_dir(folder.path().join(SINGLE)).unwrap();
            folder
        }, open, error if says(error, "not a regular file")),
        refused!("a device as file", {
            let folder = folder(&[]);
            std::os::unix::fs::symlink("/dev/zero", folder.path().join(SINGLE)).unwrap();
            folder
        }, open, error if says(error, "not a regular file")),
    ]
}

pub(crate) fn further() -> Vec<Case> {
    vec![
        bad!("safetensors: a name that moves the cursor", named(r#""a\u001b[2J""#), Bad::Name { .. }),
        bad!("safetensors: no name", named(r#""""#), Bad::Name { name } if name.is_empty()),
        bad!("safetensors: metadata twice", file(r#"{"__metadata__":{},"__metadata__":{}}"#, 0), Bad::Json(error) if error.to_string().contains("stands twice")),
        bad!("safetensors: dimensions of 2^64", shaped("[18446744073709551616]"), Bad::Json(_)),
        bad!("safetensors: text behind the header", file(&format!("{{{A}}}x"), 16), Bad::Json(error) if error.to_string().contains("trailing")),
        taken!("safetensors: blanks behind the header", file(&format!("{{{A}}}   "), 16), read),
        taken!("safetensors: no tensors", file("{}", 0), read),
        refused!(
            "safetensors: an index that is no file",
            {
                let folder = folder(&[]);
                assert!(Command::new("mkfifo").arg(folder.path().join(INDEX)).status().unwrap().success());
                folder
            },
            open,
            GlmError::Read { .. }
        ),
        refused!("safetensors: a tensor twice in the index", folder(&[(INDEX, index(r#"{"a": "1", "a": "1"}"#).as_bytes())]), open, GlmError::Json { source, .. } if source.to_string().contains("stands twice")),
    ]
}
