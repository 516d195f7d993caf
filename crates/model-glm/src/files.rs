//! Reading a checkpoint's text files, each at most as long as such a file can be.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use crate::GlmError;

/// `config.json` and `generation_config.json` have some kilobytes.
pub(crate) const MAX_CONFIG: u64 = 1 << 20;
/// `tokenizer_config.json` may hold templates and describe every added token.
pub(crate) const MAX_TOKENIZER_CONFIG: u64 = 2 << 20;
/// GLM-4's `tokenizer.json` has 20 MB.
pub(crate) const MAX_TOKENIZER: u64 = 64 << 20;
/// A shard index has about 100 bytes a tensor.
pub(crate) const MAX_INDEX: u64 = 32 << 20;

/// The text of a regular file of at most `most` bytes.
///
/// # Errors
/// [`GlmError::Read`] for what cannot be opened, is no regular file or no UTF-8; [`GlmError::FileTooLarge`].
pub(crate) fn read_text(path: &Path, most: u64) -> Result<String, GlmError> {
    let fail = |source| GlmError::Read { path: path.to_owned(), source };
    // Opening a pipe would wait for its writer.
    let found = fs::metadata(path).map_err(fail)?;
    if !found.is_file() {
        return Err(fail(io::Error::other("not a regular file")));
    }
    expect_size(path, found.len(), most)?;
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(most + 1).read_to_string(&mut text)).map_err(fail)?;
    // It may have grown since.
    expect_size(path, text.len() as u64, most)?;
    Ok(text)
}

/// As [`read_text`]; `None` where there is no such file.
pub(crate) fn read_optional_text(path: &Path, most: u64) -> Result<Option<String>, GlmError> {
    match read_text(path, most) {
        Ok(text) => Ok(Some(text)),
        Err(GlmError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Fails where a text is longer than such a file can be.
pub(crate) fn expect_size(path: &Path, bytes: u64, most: u64) -> Result<(), GlmError> {
    match bytes > most {
        true => Err(GlmError::FileTooLarge { path: path.to_owned(), bytes, most }),
        false => Ok(()),
    }
}
