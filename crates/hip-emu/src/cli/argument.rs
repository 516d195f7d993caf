//! A kernel's argument as it is written after `--arg`.

use std::{fs, io, path::PathBuf, str::FromStr};

use hsaco::{ArgInfo, ValueKind};

use crate::cli::element::Element;

/// Bytes of a buffer, at most.
const MOST: usize = 1 << 32;

/// How arguments are written, for the help.
pub(super) const FORMS: &str = "\
Arguments, one --arg each, in the order of the kernel's parameters, which
`hip-emu info FILE` lists:
  TYPE:VALUE                a number of the parameter's size: i32:-5, f32:1.5
  bytes:HEX                 any other value as it lies in memory: bytes:0100ff
  in:TYPE:VALUES            a buffer that the kernel reads: in:f32:1,2,3
  out:TYPE:COUNT[=FILE]     a buffer of so many elements, which hold 0xff bytes
                            until they are written, and are then printed
  inout:TYPE:VALUES[=FILE]  a buffer that is read, written and then printed
  null                      no buffer
TYPE is i8, u8, i16, u16, i32, u32, i64, u64, f16, bf16, f32 or f64.
VALUES are numbers between commas, or @FILE, whose bytes are the elements,
little-endian. With =FILE a buffer's bytes go there instead of being printed.

Example: y += 2 x, by a kernel
axpy_f32(float *y, const float *x, float scale, unsigned length)
  hip-emu run axpy.hsaco --kernel axpy_f32 --grid 1 --block 64 \\
      --arg inout:f32:1,2,3 --arg in:f32:@x.bin --arg f32:2 --arg u32:3

The card is the one that the file is for, or gfx1100 where it is for several.
HIP_EMU_ARCH, HIP_EMU_SEED, HIP_EMU_THREADS, HIP_EMU_INSTRUCTION_LIMIT and
HIP_EMU_CHECK change it, as they do where it stands in for HIP.";

/// One argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Argument {
    /// A value's bytes.
    Value(Vec<u8>),
    /// A null pointer.
    Null,
    /// A pointer to a buffer.
    Buffer(Buffer),
}

/// A buffer to allocate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Buffer {
    pub(super) element: Element,
    pub(super) contents: Contents,
    pub(super) output: Option<Output>,
}

/// What is in a buffer before the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Contents {
    /// These bytes.
    Bytes(Vec<u8>),
    /// The bytes of a file.
    File(PathBuf),
    /// So many bytes that nobody has written.
    Fresh(usize),
}

/// Where a buffer goes after the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Output {
    Print,
    File(PathBuf),
}

/// Why an argument cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArgumentError {
    #[error(
        "`{0}` is no argument: expected TYPE:VALUE, bytes:HEX, in:, out:, inout: or null; see run --help"
    )]
    Form(String),
    #[error("`{0}` is no type: expected i8, u8, i16, u16, i32, u32, i64, u64, f16, bf16, f32 or f64")]
    Type(String),
    #[error("`{text}` is no {element}")]
    Number { text: String, element: &'static str },
    #[error("`{0}` is no row of bytes in hexadecimal, two digits each")]
    Hex(String),
    #[error("`{0}` is no number of elements whose bytes are at most {MOST}")]
    Count(String),
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} has {bytes} bytes, no whole number of {element} elements, or more than {MOST}", path.display())]
    FileSize { path: PathBuf, bytes: usize, element: &'static str },
}

impl FromStr for Argument {
    type Err = ArgumentError;

    fn from_str(text: &str) -> Result<Self, ArgumentError> {
        if text == "null" {
            return Ok(Self::Null);
        }
        let (head, rest) = text.split_once(':').ok_or_else(|| ArgumentError::Form(text.to_owned()))?;
        match head {
            "in" => buffer(rest, values).map(Self::Buffer),
            "bytes" => hex(rest).map(Self::Value).ok_or_else(|| ArgumentError::Hex(rest.to_owned())),
            "out" => output(rest, count).map(Self::Buffer),
            "inout" => output(rest, values).map(Self::Buffer),
            name => {
                let mut bytes = Vec::new();
                append(element(name)?, rest, &mut bytes)?;
                Ok(Self::Value(bytes))
            }
        }
    }
}

impl Argument {
    /// Whether the kernel's parameter takes it.
    pub(super) fn suits(&self, parameter: &ArgInfo) -> bool {
        match self {
            Self::Value(bytes) => {
                parameter.kind == ValueKind::ByValue && u32::try_from(bytes.len()) == Ok(parameter.size)
            }
            Self::Null | Self::Buffer(_) => parameter.kind == ValueKind::GlobalBuffer && parameter.size == 8,
        }
    }
}

/// What can be written for a parameter.
pub(super) fn expected(parameter: &ArgInfo) -> &'static str {
    match (&parameter.kind, parameter.size) {
        (ValueKind::GlobalBuffer, 8) => "in:, out:, inout: or null",
        (ValueKind::ByValue, 1) => "i8:, u8: or bytes:",
        (ValueKind::ByValue, 2) => "i16:, u16:, f16:, bf16: or bytes:",
        (ValueKind::ByValue, 4) => "i32:, u32:, f32: or bytes:",
        (ValueKind::ByValue, 8) => "i64:, u64:, f64: or bytes:",
        (ValueKind::ByValue, _) => "bytes:",
        _ => "none that can be given here",
    }
}

impl Buffer {
    /// The bytes to write before the run, and how many it holds.
    pub(super) fn load(&self) -> Result<(Vec<u8>, usize), ArgumentError> {
        match &self.contents {
            Contents::Fresh(bytes) => Ok((Vec::new(), *bytes)),
            Contents::Bytes(bytes) => Ok((bytes.clone(), bytes.len())),
            Contents::File(path) => {
                let bytes =
                    fs::read(path).map_err(|source| ArgumentError::Read { path: path.clone(), source })?;
                let length = bytes.len();
                if !length.is_multiple_of(self.element.size()) || length > MOST {
                    let (path, element) = (path.clone(), self.element.name());
                    return Err(ArgumentError::FileSize { path, bytes: length, element });
                }
                Ok((bytes, length))
            }
        }
    }
}

type ContentsOf = fn(Element, &str) -> Result<Contents, ArgumentError>;

/// `TYPE:CONTENTS`.
fn buffer(text: &str, contents: ContentsOf) -> Result<Buffer, ArgumentError> {
    let (name, rest) = text.split_once(':').ok_or_else(|| ArgumentError::Form(text.to_owned()))?;
    let element = element(name)?;
    Ok(Buffer { element, contents: contents(element, rest)?, output: None })
}

/// `TYPE:CONTENTS` or `TYPE:CONTENTS=FILE`.
fn output(text: &str, contents: ContentsOf) -> Result<Buffer, ArgumentError> {
    let (text, output) = match text.split_once('=') {
        Some((text, file)) => (text, Output::File(file.into())),
        None => (text, Output::Print),
    };
    Ok(Buffer { output: Some(output), ..buffer(text, contents)? })
}

fn values(element: Element, text: &str) -> Result<Contents, ArgumentError> {
    if let Some(path) = text.strip_prefix('@') {
        return Ok(Contents::File(path.into()));
    }
    let mut bytes = Vec::new();
    for number in text.split(',') {
        append(element, number.trim(), &mut bytes)?;
    }
    Ok(Contents::Bytes(bytes))
}

fn count(element: Element, text: &str) -> Result<Contents, ArgumentError> {
    let bytes = text.parse::<usize>().ok().and_then(|count| count.checked_mul(element.size()));
    let bytes = bytes.filter(|&bytes| bytes <= MOST).ok_or_else(|| ArgumentError::Count(text.to_owned()))?;
    Ok(Contents::Fresh(bytes))
}

fn element(name: &str) -> Result<Element, ArgumentError> {
    name.parse().map_err(|()| ArgumentError::Type(name.to_owned()))
}

fn append(element: Element, text: &str, bytes: &mut Vec<u8>) -> Result<(), ArgumentError> {
    let refused = || ArgumentError::Number { text: text.to_owned(), element: element.name() };
    element.append(text, bytes).ok_or_else(refused)
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    digits.chunks(2).map(|pair| u8::try_from(pair.first()? * 16 + pair.get(1)?).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argument(text: &str) -> Argument {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn refusal(text: &str) -> ArgumentError {
        text.parse::<Argument>().unwrap_err()
    }

    #[test]
    fn every_form_is_read() {
        assert_eq!(argument("i32:-5"), Argument::Value(vec![0xfb, 0xff, 0xff, 0xff]));
        assert_eq!(argument("bytes:01fF"), Argument::Value(vec![1, 255]));
        assert_eq!(argument("null"), Argument::Null);
        let buffer = |contents, output| Argument::Buffer(Buffer { element: Element::U16, contents, output });
        assert_eq!(argument("in:u16:1,2"), buffer(Contents::Bytes(vec![1, 0, 2, 0]), None));
        assert_eq!(argument("in:u16:@a=b"), buffer(Contents::File("a=b".into()), None));
        assert_eq!(argument("out:u16:3"), buffer(Contents::Fresh(6), Some(Output::Print)));
        assert_eq!(
            argument("out:u16:3=C:\\y"),
            buffer(Contents::Fresh(6), Some(Output::File("C:\\y".into())))
        );
        assert_eq!(
            argument("inout:u16:@a=b"),
            buffer(Contents::File("a".into()), Some(Output::File("b".into())))
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(matches!(refusal("5"), ArgumentError::Form(text) if text == "5"));
        assert!(matches!(refusal("in:f32"), ArgumentError::Form(_)));
        assert!(matches!(refusal("f8:1"), ArgumentError::Type(name) if name == "f8"));
        assert!(matches!(refusal("in:f8:1"), ArgumentError::Type(_)));
        assert!(
            matches!(refusal("in:f32:1,,2"), ArgumentError::Number { text, element: "f32" } if text.is_empty())
        );
        assert!(matches!(refusal("bytes:abc"), ArgumentError::Hex(_)));
        assert!(matches!(refusal("bytes:zz"), ArgumentError::Hex(_)));
        for count in ["-1", "1.5", "18446744073709551615", "536870913"] {
            assert!(matches!(refusal(&format!("out:f64:{count}")), ArgumentError::Count(_)), "{count}");
        }
    }

    #[test]
    fn an_argument_suits_a_parameter_of_its_kind_and_size() {
        let parameter = |kind, size| ArgInfo { name: None, offset: 0, size, kind };
        let (pointer, word) = (parameter(ValueKind::GlobalBuffer, 8), parameter(ValueKind::ByValue, 4));
        assert!(argument("out:f32:1").suits(&pointer) && argument("null").suits(&pointer));
        assert!(!argument("u64:0").suits(&pointer) && !argument("null").suits(&word));
        assert!(argument("f32:0").suits(&word) && !argument("f64:0").suits(&word));
        let shared = parameter(ValueKind::Other("dynamic_shared_pointer".to_owned()), 4);
        assert!(!argument("u32:0").suits(&shared));
    }
}
