//! Chat templates, rendered for a short conversation.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model_glm::{ChatTemplate, Message};

fuzz_target!(|text: &str| {
    let messages = [
        Message::new("user", "hello"),
        Message::new("assistant", "<think>a</think>b"),
        Message::new("user", "x"),
    ];
    if let Ok(template) = ChatTemplate::new(text.to_owned()) {
        let _ = template.render(&messages, &["<|user|>".to_owned(), "x".to_owned()]);
    }
});
