//! Namespaces are the only values of a template that change, and so the only ones that can come to hold themselves. Writing or
//! comparing such a one never ends. So each has to stand in a name, and is used by its attributes alone.

use std::collections::BTreeSet;
use std::ops::Range;

use minijinja::{Error, ErrorKind};

const FUNCTION: &str = "namespace";

/// Refuses a template that could hand a namespace on: to another name, a list, a namespace, a macro or a filter.
///
/// All text counts as code, what stands between blocks and in quotes too, as the library may see it otherwise than this does.
///
/// # Errors
/// [`ErrorKind::SyntaxError`] with the first name that is used so.
pub(super) fn check(source: &str) -> Result<(), Error> {
    let words = words(source);
    let mut holders = BTreeSet::new();
    for (at, _) in words.iter().enumerate().filter(|(_, word)| source[(*word).clone()] == *FUNCTION) {
        holders.insert(holder(source, &words[..=at]).ok_or_else(|| handed_on(FUNCTION))?);
    }
    for word in words {
        let name = &source[word.clone()];
        if holders.contains(name) && !is_by_attribute(&source[..word.start], &source[word.end..]) {
            return Err(handed_on(name));
        }
    }
    Ok(())
}

fn handed_on(name: &str) -> Error {
    let detail = format!(
        "the template hands on a namespace (`{name}`), which could come to hold itself: write `{{% set ns = namespace(...) %}}`, and \
         use `ns` by its attributes alone, as in `ns.last`"
    );
    Error::new(ErrorKind::SyntaxError, detail)
}

/// Where names, keywords and numbers stand.
fn words(source: &str) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut rest = 0;
    while let Some(start) = source[rest..].find(is_letter) {
        let start = rest + start;
        let length = source[start..].find(|letter| !is_letter(letter)).unwrap_or(source.len() - start);
        rest = start + length;
        words.push(start..rest);
    }
    words
}

/// The name in `set NAME = namespace(...) %}`, of which these words end with the function.
fn holder<'a>(source: &'a str, words: &[Range<usize>]) -> Option<&'a str> {
    let [.., set, name, function] = words else { return None };
    let is_set = source[set.clone()] == *"set" && source[set.end..name.start].trim().is_empty();
    let is_assigned = source[name.end..function.start].trim() == "=";
    let is_whole = after_brackets(&source[function.end..])?.trim_start_matches(['-', '+']).starts_with("%}");
    (is_set && is_assigned && is_whole).then(|| &source[name.clone()])
}

/// What follows a call's arguments, without the space before it.
fn after_brackets(call: &str) -> Option<&str> {
    let mut letters = call.trim_start().strip_prefix('(')?.chars();
    let (mut depth, mut quote) = (1, None);
    while depth > 0 {
        match (letters.next()?, quote) {
            ('\\', Some(_)) => drop(letters.next()),
            (letter, Some(end)) if letter == end => quote = None,
            (_, Some(_)) => {}
            (letter @ ('\'' | '"'), None) => quote = Some(letter),
            ('%', None) if letters.as_str().starts_with('}') => return None,
            ('(', None) => depth += 1,
            (')', None) => depth -= 1,
            _ => {}
        }
    }
    Some(letters.as_str().trim_start())
}

/// Whether a name between these is an attribute's, is asked for one, or is given a value. Methods are refused: what they list of a
/// namespace holds it.
fn is_by_attribute(before: &str, after: &str) -> bool {
    let after = after.trim_start();
    let is_asked = after.strip_prefix('.').is_some_and(|attribute| {
        let attribute = attribute.trim_start().trim_start_matches(is_letter);
        !attribute.trim_start().starts_with('(')
    });
    let is_given = after.starts_with('=') && !after.starts_with("==");
    before.trim_end().ends_with('.') || is_asked || after.starts_with('[') || is_given
}

fn is_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}
