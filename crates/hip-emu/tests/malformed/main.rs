//! Code objects that lie: each is refused for what is wrong with it, by the card and through HIP's functions.

#![expect(unsafe_code, reason = "HIP's functions are C functions")]
#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

/// Asserts that an image is refused with an error of a pattern.
macro_rules! assert_refused {
    ($image:expr, $pattern:pat $(if $guard:expr)?) => {
        let error = crate::image::refusal(&$image);
        assert!(matches!(&error, $pattern $(if $guard)?), "{error:?}");
    };
}

mod contents;
mod image;
mod tables;
mod whole;
