//! What the reader takes, and the exact error for each thing that it refuses.

use std::time::{Duration, Instant};

use model_glm::gguf::{Gguf, GgufError, Value};

use crate::builder::*;

/// A name, a file, and what must come of it.
type Case = (&'static str, Vec<u8>, fn(&GgufError) -> bool);

macro_rules! case {
    ($name:literal, $file:expr, $pattern:pat $(if $guard:expr)?) => {
        ($name, $file, |error| matches!(error, $pattern $(if $guard)?))
    };
}

fn good() -> Builder {
    let alphabet: Vec<u8> = (0..64).collect();
    Builder::new()
        .text("general.architecture", "glm4")
        .u32("glm4.block_count", 2)
        .tensor("a", &[4, 2], 0, &alphabet[..32])
        .tensor("b", &[32], 8, &alphabet[..34])
}

#[test]
fn a_good_file_is_read_in_both_versions() {
    for version in [2, 3] {
        let file = Builder { version, ..good() }.build();
        let gguf = Gguf::read(&file).unwrap();
        assert_eq!((gguf.version(), gguf.alignment(), gguf.metadata().len()), (version, 32, 2));
        assert_eq!(gguf.get("glm4.block_count"), Some(Value::U32(2)));
        assert_eq!(gguf.get("glm4.block"), None);
        let [a, b] = ["a", "b"].map(|name| gguf.tensor(name).unwrap());
        assert_eq!((a.dims(), a.tensor_type().name(), a.bytes().len()), (&[4, 2][..], "F32", 32));
        assert_eq!((b.dims(), b.tensor_type().name(), b.bytes().len()), (&[32][..], "Q8_0", 34));
        assert_eq!(file[b.bytes()], (0..34).collect::<Vec<u8>>());
        assert_eq!(a.bytes().end, b.bytes().start);
    }
    assert!(Gguf::read(&Builder::new().build()).unwrap().tensors().is_empty(), "no keys, no tensors");
}

#[test]
fn every_type_of_value_is_read() {
    let nested = [&ARRAY.to_le_bytes()[..], &length(1), &U8.to_le_bytes(), &length(2), &[8, 9]].concat();
    let file = Builder::new()
        .key("u8", 0, [200])
        .key("i8", 1, [200])
        .key("u16", 2, 40_000_u16.to_le_bytes())
        .key("i16", 3, (-2_i16).to_le_bytes())
        .u32("u32", u32::MAX)
        .key("i32", I32, (-3_i32).to_le_bytes())
        .f32("f32", 0.5)
        .key("bool", BOOL, [1])
        .text("text", "GLM 智谱")
        .texts("texts", &["a", "", "bc"])
        .key("u64", U64, u64::MAX.to_le_bytes())
        .key("i64", 11, (-4_i64).to_le_bytes())
        .key("f64", 12, 1e300_f64.to_le_bytes())
        .key("nested", ARRAY, nested)
        .build();
    let gguf = Gguf::read(&file).unwrap();
    let scalars = [
        ("u8", Value::U8(200)),
        ("i8", Value::I8(-56)),
        ("u16", Value::U16(40_000)),
        ("i16", Value::I16(-2)),
        ("u32", Value::U32(u32::MAX)),
        ("i32", Value::I32(-3)),
        ("f32", Value::F32(0.5)),
        ("bool", Value::Bool(true)),
        ("text", Value::Str("GLM 智谱")),
        ("u64", Value::U64(u64::MAX)),
        ("i64", Value::I64(-4)),
        ("f64", Value::F64(1e300)),
    ];
    for (key, value) in scalars {
        assert_eq!(gguf.get(key), Some(value), "{key}");
    }
    let array = |key: &str| gguf.get(key).unwrap().as_array().unwrap();
    assert_eq!(array("texts").strings().unwrap().collect::<Vec<_>>(), ["a", "", "bc"]);
    let inner = array("nested").iter().next().unwrap().as_array().unwrap();
    assert_eq!(inner.iter().collect::<Vec<_>>(), [Value::U8(8), Value::U8(9)]);
    assert!(array("nested").strings().is_none());
}

/// The 33 kinds of file of llama.cpp's test-gguf, by its names; it refuses 26 of them.
fn of_llama_cpp() -> Vec<Case> {
    let tensor = |dims: &[u64], number, offset| good().info("c", dims, number, offset).build();
    let key = |key: Vec<u8>| good().raw_key([&key[..], &U8.to_le_bytes(), &[0]].concat()).build();
    let aligned = |value_type, value: u32| good().key("general.alignment", value_type, value.to_le_bytes());
    let unaligned = Builder { alignment: 1, ..Builder::new() };
    let unaligned = unaligned.tensor("a", &[3], 24, b"abc").tensor("b", &[3], 24, b"def");
    let most = 0x7fff_ffff_ffff_ffc0;
    vec![
        case!("HEADER_BAD_MAGIC", Builder { magic: *b"GGML", ..good() }.build(), GgufError::Magic { found } if found == b"GGML"),
        case!(
            "HEADER_BAD_VERSION_0",
            Builder { version: 0, ..good() }.build(),
            GgufError::Version { found: 0 }
        ),
        case!(
            "HEADER_BAD_VERSION_1",
            Builder { version: 1, ..good() }.build(),
            GgufError::Version { found: 1 }
        ),
        case!(
            "HEADER_BAD_VERSION_FUTURE",
            Builder { version: 4, ..good() }.build(),
            GgufError::Version { found: 4 }
        ),
        case!(
            "HEADER_BAD_N_TENSORS",
            Builder { tensor_count: Some(u64::MAX), ..good() }.build(),
            GgufError::TensorCount { claimed: u64::MAX, .. }
        ),
        case!(
            "HEADER_BAD_N_KV",
            Builder { key_count: Some(u64::MAX), ..good() }.build(),
            GgufError::KeyCount { claimed: u64::MAX, .. }
        ),
        case!(
            "KV_BAD_KEY_SIZE",
            key([&u64::MAX.to_le_bytes()[..], b"key"].concat()),
            GgufError::KeyLength { index: 2, length: u64::MAX, .. }
        ),
        case!("KV_EMPTY_KEY", key(text("")), GgufError::KeyLength { index: 2, length: 0, .. }),
        case!("KV_BAD_TYPE", good().key("key", 13, [0]).build(), GgufError::ValueType { key, found: 13 } if key == "key"),
        case!("KV_DUPLICATE_KEY", key(text("glm4.block_count")), GgufError::DuplicateKey { key } if key == "glm4.block_count"),
        case!("KV_BAD_ALIGN", aligned(U32, 13).build(), GgufError::Alignment { found: 13, .. }),
        case!("KV_WRONG_TYPE_ALIGN", aligned(I32, 32).build(), GgufError::AlignmentType { found: "i32" }),
        case!(
            "TENSORS_BAD_NAME_SIZE",
            good().info(&"n".repeat(65), &[4], 0, 96).build(),
            GgufError::TensorNameLength { index: 2, length: 65, .. }
        ),
        case!(
            "TENSORS_BAD_N_DIMS",
            good().raw_tensor([&text("c")[..], &[255; 4], &[0; 40]].concat()).build(),
            GgufError::Rank { found: u32::MAX, .. }
        ),
        case!(
            "TENSORS_BAD_SHAPE",
            tensor(&[4, u64::MAX], 0, 96),
            GgufError::Dimension { axis: 1, found: u64::MAX, .. }
        ),
        case!("TENSORS_NE_TOO_BIG", tensor(&[i64::MAX as u64; 4], 24, 96), GgufError::ElementCount { dims, .. } if dims.len() == 4),
        case!(
            "TENSORS_NBYTES_TOO_BIG",
            tensor(&[1 << 61], 27, 96),
            GgufError::ByteCount { dtype: "I64", .. }
        ),
        case!("TENSORS_BAD_TYPE", tensor(&[4], 99, 96), GgufError::TensorType { found: 99, .. }),
        case!(
            "TENSORS_BAD_OFFSET",
            tensor(&[4], 0, u64::MAX),
            GgufError::OffsetMisaligned { offset: u64::MAX, alignment: 32, .. }
        ),
        case!("TENSORS_DUPLICATE_NAME", good().tensor("a", &[8], 0, &[0; 32]).build(), GgufError::DuplicateTensor { tensor } if tensor == "a"),
        case!("TENSORS_BAD_ALIGN", aligned(U32, 13).build(), GgufError::Alignment { found: 13, .. }),
        case!("TENSORS_INCONSISTENT_ALIGN", unaligned.build(), GgufError::OffsetMisaligned { tensor, offset: 3, .. } if tensor == "b"),
        case!("DATA_NOT_ENOUGH_DATA", tensor(&[1 << 20], 0, 96), GgufError::BeyondFile { tensor, .. } if tensor == "c"),
        case!(
            "DATA_BAD_ALIGN",
            aligned(U32, 13).data(b"data").build(),
            GgufError::Alignment { found: 13, .. }
        ),
        case!("DATA_INCONSISTENT_ALIGN", unaligned.data(b"data").build(), GgufError::OffsetMisaligned { tensor, offset: 3, .. } if tensor == "b"),
        case!(
            "DATA_MEM_SIZE_OVERFLOW",
            Builder::new().info("a", &[most], 24, 0).info("b", &[most], 24, most).build(),
            GgufError::BeyondFile { .. }
        ),
    ]
}

/// What attacks on other readers and their fixes left to try.
fn further() -> Vec<Case> {
    let key = |key: Vec<u8>| good().raw_key([&key[..], &U8.to_le_bytes(), &[0]].concat()).build();
    let long_key = |length: u64| key([&length.to_le_bytes()[..], b"key"].concat());
    let long_text =
        |length: u64| good().key("text", STRING, [&length.to_le_bytes()[..], b"abc"].concat()).build();
    let array = |element: u32, count: u64| {
        good().key("array", ARRAY, [&element.to_le_bytes()[..], &count.to_le_bytes(), &[0; 9]].concat())
    };
    let level = [&ARRAY.to_le_bytes()[..], &length(1)].concat();
    let nested = |levels: usize| [&level.repeat(levels)[..], &U8.to_le_bytes(), &length(1), &[7]].concat();
    let aligned = |value| good().u32("general.alignment", value).build();
    let tensor = |dims: &[u64], number, offset| good().info("c", dims, number, offset).build();
    let half = 1 << 62;
    vec![
        case!("an empty file", Vec::new(), GgufError::Magic { found } if found.is_empty()),
        case!("three bytes", b"GGU".to_vec(), GgufError::Magic { found } if found == b"GGU"),
        case!(
            "no version",
            b"GGUF\x03\0".to_vec(),
            GgufError::Truncated { what: "the version", at: 4, needed: 4, left: 2 }
        ),
        case!(
            "no counts",
            b"GGUF\x03\0\0\0\x01".to_vec(),
            GgufError::Truncated { what: "the number of tensors", at: 8, needed: 8, left: 1 }
        ),
        case!("a big-endian magic", Builder { magic: *b"FUGG", ..good() }.build(), GgufError::BigEndian),
        case!(
            "a big-endian version",
            Builder { version: 3_u32.swap_bytes(), ..good() }.build(),
            GgufError::BigEndian
        ),
        case!(
            "one key too many for the file",
            Builder { key_count: Some(40), ..good() }.build(),
            GgufError::KeyCount { claimed: 40, .. }
        ),
        case!(
            "one tensor too many for the file",
            Builder { tensor_count: Some(40), ..good() }.build(),
            GgufError::TensorCount { claimed: 40, .. }
        ),
        case!(
            "a key that is not there",
            Builder { key_count: Some(1), ..Builder::new() }.data(&[1; 40]).build(),
            GgufError::KeyLength { index: 0, .. }
        ),
        case!(
            "a key of 2^63 bytes",
            long_key(1 << 63),
            GgufError::KeyLength { length: 0x8000_0000_0000_0000, .. }
        ),
        case!("a key of 1 GiB", long_key(1 << 30), GgufError::KeyLength { length: 0x4000_0000, .. }),
        case!(
            "a key past the end",
            long_key(60_000),
            GgufError::Truncated { what: "a key", needed: 60_000, .. }
        ),
        case!(
            "a key that is not UTF-8",
            key([&length(2)[..], b"\xff\xfe"].concat()),
            GgufError::KeyNotUtf8 { index: 2 }
        ),
        case!("a NUL in a key", key(text("a\0b")), GgufError::KeyHasNul { key } if key == "a\0b"),
        case!(
            "a text of 2^63 bytes",
            long_text(1 << 63),
            GgufError::StringLength { length: 0x8000_0000_0000_0000, .. }
        ),
        case!("a text of 1 GiB", long_text(1 << 30), GgufError::StringLength { length: 0x4000_0000, .. }),
        case!("a text past the end", long_text(1000), GgufError::StringLength { key, length: 1000, .. } if key == "text"),
        case!("a text that is not UTF-8", good().key("text", STRING, [&length(1)[..], b"\xff"].concat()).build(), GgufError::StringNotUtf8 { key } if key == "text"),
        case!(
            "an array of 2^63 elements",
            array(U8, 1 << 63).build(),
            GgufError::ArrayLength { count: 0x8000_0000_0000_0000, .. }
        ),
        case!(
            "an array of 2^61 numbers, 2^64 bytes",
            array(U64, 1 << 61).build(),
            GgufError::ArrayLength { .. }
        ),
        case!("an array of 2^40 empty texts", array(STRING, 1 << 40).build(), GgufError::ArrayLength { key, .. } if key == "array"),
        case!("an array of no type", array(13, 1).build(), GgufError::ValueType { found: 13, .. }),
        case!("arrays in arrays, 65 deep", good().key("deep", ARRAY, nested(64)).build(), GgufError::ArrayDepth { key, most: 8 } if key == "deep"),
        case!(
            "arrays in arrays, 9 deep",
            good().key("deep", ARRAY, nested(8)).build(),
            GgufError::ArrayDepth { most: 8, .. }
        ),
        case!("a bool of 2", good().key("flag", BOOL, [2]).build(), GgufError::Bool { key, found: 2 } if key == "flag"),
        case!(
            "a bool of 2 in an array",
            good().key("flags", ARRAY, [&BOOL.to_le_bytes()[..], &length(2), &[1, 2]].concat()).build(),
            GgufError::Bool { found: 2, .. }
        ),
        case!("an alignment of 2^30", aligned(1 << 30), GgufError::Alignment { found: 0x4000_0000, .. }),
        case!("an alignment of 2^31", aligned(1 << 31), GgufError::Alignment { found: 0x8000_0000, .. }),
        case!("an alignment of 0", aligned(0), GgufError::Alignment { found: 0, .. }),
        case!("an alignment of 3", aligned(3), GgufError::Alignment { found: 3, .. }),
        case!("sizes whose sum overflows", Builder::new().info("a", &[half, 1], 25, 0).info("b", &[half, 1], 25, 0).build(), GgufError::TotalBytes { tensor } if tensor == "b"),
        case!(
            "a size whose padding overflows",
            tensor(&[(1 << 61) - 1], 27, 96),
            GgufError::Padding { bytes: 0xffff_ffff_ffff_fff8, alignment: 32, .. }
        ),
        case!(
            "an offset that overflows",
            tensor(&[4], 0, u64::MAX - 31),
            GgufError::OffsetOverflow { offset: 0xffff_ffff_ffff_ffe0, bytes: 16, .. }
        ),
        case!(
            "an offset that is not aligned",
            tensor(&[4], 0, 97),
            GgufError::OffsetMisaligned { offset: 97, .. }
        ),
        case!("two tensors at one place", tensor(&[4], 0, 32), GgufError::Overlap { .. }),
        case!("a tensor inside another", Builder::new().info("c", &[4], 0, 32).tensor("a", &[32], 0, &[0; 128]).build(), GgufError::Overlap { first, second } if first == "a" && second == "c"),
        case!("an offset past the end", tensor(&[4], 0, 1 << 20), GgufError::BeyondFile { .. }),
        case!("a tensor cut by one byte", { let mut file = good().build(); file.truncate(file.len() - 31); file }, GgufError::BeyondFile { tensor, .. } if tensor == "b"),
        case!("no dimensions", tensor(&[], 0, 96), GgufError::Rank { found: 0, .. }),
        case!("five dimensions", tensor(&[1; 5], 0, 96), GgufError::Rank { found: 5, .. }),
        case!(
            "rows that are not whole blocks",
            tensor(&[48], 8, 96),
            GgufError::PartialBlock { row: 48, dtype: "Q8_0", block: 32, .. }
        ),
        case!("a type that ggml withdrew", tensor(&[32], 4, 96), GgufError::TensorType { found: 4, .. }),
        case!(
            "a tensor without a name",
            good().info("", &[4], 0, 96).build(),
            GgufError::TensorNameLength { length: 0, .. }
        ),
        case!(
            "a tensor's name that is not UTF-8",
            good().raw_tensor([&length(1)[..], b"\xff", &[0; 40]].concat()).build(),
            GgufError::TensorNameNotUtf8 { index: 2 }
        ),
        case!(
            "a product that overflows before a zero",
            tensor(&[1 << 40, 1 << 40, 0], 24, 96),
            GgufError::ElementCount { .. }
        ),
    ]
}

#[test]
fn every_wrong_file_has_its_error() {
    let cases = [of_llama_cpp(), further()].concat();
    for (name, file, expected) in &cases {
        match Gguf::read(file) {
            Ok(_) => panic!("{name}: it was read"),
            Err(error) => assert!(expected(&error), "{name}: {error:?}"),
        }
    }
    let mut names: Vec<_> = cases.iter().map(|(name, ..)| name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 26 + 45, "each case has a name of its own");
}

#[test]
fn what_llama_cpp_takes_is_taken() {
    let nested = [&ARRAY.to_le_bytes()[..], &length(1)].concat().repeat(7);
    let nested = [&nested[..], &U8.to_le_bytes(), &length(1), &[7]].concat();
    let unaligned = Builder { alignment: 1, ..Builder::new() }.u32("general.alignment", 1);
    let right = [
        ("HEADER_EMPTY", Builder::new()),
        ("KV_SUCCESS", Builder::new().text("a", "b").key("deep", ARRAY, nested)),
        ("TENSORS_ZERO_DIM", good().tensor("c", &[4, 0], 0, &[])),
        ("TENSORS_SUCCESS", good()),
        ("TENSORS_CUSTOM_ALIGN", unaligned.clone().tensor("a", &[3], 24, b"abc")),
        ("DATA_SUCCESS", good().data(b"behind the tensors")),
        ("DATA_CUSTOM_ALIGN", unaligned.tensor("a", &[3], 24, b"abc").tensor("b", &[1], 24, b"d")),
    ];
    for (name, file) in right {
        Gguf::read(&file.build()).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn every_cut_of_a_file_is_refused() {
    let file = good().texts("texts", &["a", "bc"]).build();
    let data = Gguf::read(&file).unwrap().tensor("b").unwrap().bytes().end;
    for cut in 0..data {
        Gguf::read(&file[..cut]).unwrap_err();
    }
    Gguf::read(&file[..data]).unwrap();
}

/// ggml takes 13.8 s and 33.1 s for these.
#[test]
fn many_keys_and_many_tensors_take_linear_time() {
    // Unoptimised and beside other tests; a quadratic reader takes minutes.
    let most = if cfg!(debug_assertions) { Duration::from_secs(2) } else { Duration::from_millis(100) };
    let keys = (0..80_000).fold(Builder::new(), |file, index| {
        file.raw_key([&text(&format!("key.{index}"))[..], &U8.to_le_bytes(), &[1]].concat())
    });
    let tensors = (0..80_000)
        .fold(Builder::new(), |file, index| file.tensor(&format!("tensor.{index}"), &[8], 0, &[0; 32]));
    for (what, file, counts) in [("keys", keys, (80_000, 0)), ("tensors", tensors, (0, 80_000))] {
        let file = file.build();
        let start = Instant::now();
        let gguf = Gguf::read(&file).unwrap();
        let took = start.elapsed();
        assert_eq!((gguf.metadata().len(), gguf.tensors().len()), counts);
        assert!(took < most, "80,000 {what} took {took:?}");
    }
}
