//! Reading the keys of one JSON object: each in its type and range, each error naming the key.

use serde_json::{Map, Value};

use crate::GlmError;

/// One object of a config, with its file and the path that leads to it.
pub(crate) struct Keys<'a> {
    file: &'static str,
    path: String,
    object: &'a Map<String, Value>,
}

impl<'a> Keys<'a> {
    pub(crate) fn new(file: &'static str, path: &str, value: &'a Value) -> Result<Keys<'a>, GlmError> {
        let object = value.as_object().ok_or_else(|| GlmError::BadKey {
            file,
            key: if path.is_empty() { String::from("the file") } else { path.to_owned() },
            expected: "an object",
            found: shown(value),
        })?;
        Ok(Keys { file, path: path.to_owned(), object })
    }

    /// The path that leads to the object; empty for the file itself.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Whether the key is there with a value that is not null.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    pub(crate) fn text(&self, key: &'static str) -> Result<&'a str, GlmError> {
        let value = self.required(key, "a text")?;
        value.as_str().ok_or_else(|| self.bad(key, "a text"))
    }

    /// A count from 1 to `most`.
    pub(crate) fn count(&self, key: &'static str, most: u32) -> Result<u32, GlmError> {
        self.required(key, "a whole number of at least 1")?;
        let count = self.optional_count(key, most)?;
        count.ok_or_else(|| self.bad(key, "a whole number of at least 1"))
    }

    pub(crate) fn optional_count(&self, key: &'static str, most: u32) -> Result<Option<u32>, GlmError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let count = value.as_u64().and_then(|count| u32::try_from(count).ok());
        let count = count.filter(|count| (1..=most).contains(count));
        count.map(Some).ok_or_else(|| self.bad(key, "a whole number of at least 1 and of believable size"))
    }

    /// A whole number from 0 to `most`; absent is 0.
    pub(crate) fn whole_or_zero(&self, key: &'static str, most: u32) -> Result<u32, GlmError> {
        let Some(value) = self.get(key) else { return Ok(0) };
        let whole = value.as_u64().and_then(|whole| u32::try_from(whole).ok()).filter(|&whole| whole <= most);
        whole.ok_or_else(|| self.bad(key, "a whole number of believable size"))
    }

    /// A finite number.
    pub(crate) fn number(&self, key: &'static str) -> Result<f64, GlmError> {
        self.required(key, "a number")?;
        self.optional_number(key)?.ok_or_else(|| self.bad(key, "a number"))
    }

    pub(crate) fn optional_number(&self, key: &'static str) -> Result<Option<f64>, GlmError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = value.as_f64().filter(|number| number.is_finite());
        number.map(Some).ok_or_else(|| self.bad(key, "a number"))
    }

    pub(crate) fn numbers(&self, key: &'static str) -> Result<Vec<f64>, GlmError> {
        let items = self.required(key, "a list of numbers")?.as_array();
        let numbers = items.and_then(|items| items.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>());
        numbers.ok_or_else(|| self.bad(key, "a list of numbers"))
    }

    pub(crate) fn flag(&self, key: &'static str) -> Result<Option<bool>, GlmError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.bad(key, "true or false"))
    }

    /// The epsilon of a norm: positive and below 1.
    pub(crate) fn eps(&self, key: &'static str) -> Result<f32, GlmError> {
        let eps = self.number(key)?;
        if eps > 0.0 && eps < 1.0 {
            #[expect(clippy::cast_possible_truncation, reason = "norms compute in f32")]
            return Ok(eps as f32);
        }
        Err(self.bad(key, "above 0 and below 1"))
    }

    /// One token id or a list of them, of a vocabulary of `tokens`; absent or null is none.
    pub(crate) fn ids(&self, key: &'static str, tokens: usize) -> Result<Vec<u32>, GlmError> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let one = std::slice::from_ref(value);
        let items = value.as_array().map_or(one, Vec::as_slice);
        let id = |item: &Value| item.as_u64().and_then(|id| u32::try_from(id).ok());
        let ids = items.iter().map(id).collect::<Option<Vec<_>>>();
        let ids = ids.ok_or_else(|| self.bad(key, "a token id or a list of them"))?;
        match ids.iter().all(|&id| (id as usize) < tokens) {
            true => Ok(ids),
            false => Err(self.bad(key, "a token id of the vocabulary, or a list of them")),
        }
    }

    pub(crate) fn object(&self, key: &'static str) -> Result<Option<Keys<'a>>, GlmError> {
        self.get(key).map(|value| Keys::new(self.file, &self.full(key), value)).transpose()
    }

    /// `dividend / divisor`, which must be whole.
    pub(crate) fn quotient(
        &self,
        key: &'static str,
        dividend: u32,
        divisor_key: &'static str,
        divisor: u32,
    ) -> Result<u32, GlmError> {
        if dividend.is_multiple_of(divisor) && divisor != 0 {
            return Ok(dividend / divisor);
        }
        Err(GlmError::BadKey {
            file: self.file,
            key: self.full(key),
            expected: "a multiple of its divisor",
            found: format!("{dividend}, with {divisor_key} {divisor}"),
        })
    }

    pub(crate) fn expect_text_or_absent(
        &self,
        key: &'static str,
        expected: &'static str,
    ) -> Result<(), GlmError> {
        if self.has(key) && self.text(key)? != expected {
            return Err(self.bad(key, expected));
        }
        Ok(())
    }

    /// The error that `key` holds something else than `expected`.
    pub(crate) fn bad(&self, key: &str, expected: &'static str) -> GlmError {
        let found = self.object.get(key).map_or_else(|| String::from("nothing"), shown);
        GlmError::BadKey { file: self.file, key: self.full(key), expected, found }
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn required(&self, key: &'static str, expected: &'static str) -> Result<&'a Value, GlmError> {
        self.get(key).ok_or_else(|| GlmError::MissingKey { file: self.file, key: self.full(key), expected })
    }

    fn full(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// A value as messages show it: whole when short.
fn shown(value: &Value) -> String {
    const MOST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
