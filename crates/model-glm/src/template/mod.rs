#[cfg(test)]
mod mutated;
mod namespaces;

use std::path::Path;

use aho_corasick::{AhoCorasick, MatchKind};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value, ValueKind};
use minijinja::{Environment, ErrorKind, context};
use serde::Serialize;

use crate::files::{self, MAX_TOKENIZER_CONFIG};
use crate::gguf::{self, Gguf};
use crate::json::Strict;
use crate::{GlmError, TokenizerError};

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `system`, `user`, `assistant` or `observation`.
    pub role: String,
    /// The text.
    pub content: String,
}

impl Message {
    /// A turn of `role`.
    pub fn new(role: &str, content: impl Into<String>) -> Message {
        Message { role: role.to_owned(), content: content.into() }
    }
}

/// A part of a rendered prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PromptPiece {
    /// From the template: control tokens in it are control tokens.
    Template(String),
    /// A control token's text inside a message: plain characters.
    Literal(String),
}

/// A chat template: Jinja as transformers runs it, in a sandbox without files, with limits on steps and output.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
}

const NAME: &str = "chat_template";
/// Several times the longest that are published.
const MAX_TEMPLATE: usize = 1 << 17;
/// Stack for a template's parts that stand in each other: for each byte, as it is read, and for each step, as it is rendered. The
/// library goes down into them, and what it does not go down into is not touched.
const STACK: usize = 1 << 20;
const STACK_A_BYTE: usize = 512;
const STACK_A_STEP: usize = 128;
/// Steps that a template may take, each of which may also make 64 bytes of text, so that memory is limited with them.
const FUEL: u64 = 400_000;
/// Further ones for each message: GLM-4.6's takes a few hundred.
const FUEL_A_MESSAGE: u64 = 2_000;
/// Bytes of messages for a further one: a template may handle each a few times.
const BYTES_A_STEP: u64 = 8;
/// Bytes that a template may write.
const MAX_OUTPUT: usize = 16 << 20;
/// What `tojson` writes at most, in bytes, levels and spaces a level.
const MAX_JSON: usize = 4 << 20;
const MAX_JSON_DEPTH: usize = 64;
const MAX_INDENT: usize = 16;
/// GLM-4-0414's own prompt, for checkpoints that carry no template.
const GLM4: &str = "[gMASK]<sop>{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}{% endfor %}\
                    {% if add_generation_prompt %}<|assistant|>{% endif %}";

impl ChatTemplate {
    /// The template of a GGUF file, or of a checkpoint folder: `chat_template.jinja`, else `chat_template` of
    /// `tokenizer_config.json`. Without one, the prompt of GLM-4-0414.
    ///
    /// # Errors
    /// [`GlmError::Json`], [`GlmError::Template`], [`GlmError::Gguf`].
    pub fn open(path: &Path) -> Result<ChatTemplate, GlmError> {
        if gguf::is_gguf(path) {
            return gguf::open(path, ChatTemplate::from_gguf);
        }
        match ChatTemplate::source_of(path)? {
            Some(source) => ChatTemplate::new(source),
            None => ChatTemplate::glm4(),
        }
    }

    /// The text of a checkpoint folder's own template.
    pub(crate) fn source_of(folder: &Path) -> Result<Option<String>, GlmError> {
        let file = folder.join("chat_template.jinja");
        if let Some(source) = files::read_optional_text(&file, MAX_TEMPLATE as u64)? {
            return Ok(Some(source));
        }
        let config = folder.join("tokenizer_config.json");
        let config = files::read_optional_text(&config, MAX_TOKENIZER_CONFIG)?;
        config.map_or(Ok(None), |text| template_of(&text))
    }

    /// The template of a GGUF file, or the prompt of GLM-4-0414 where it has none.
    ///
    /// # Errors
    /// [`GlmError::Template`], [`GlmError::BadKey`].
    pub fn from_gguf(gguf: &Gguf<'_>) -> Result<ChatTemplate, GlmError> {
        match gguf::read_template(gguf)? {
            Some(source) => ChatTemplate::new(source.to_owned()),
            None => ChatTemplate::glm4(),
        }
    }

    /// The prompt of GLM-4-0414: `[gMASK]<sop><|user|>\n...<|assistant|>`.
    ///
    /// # Errors
    /// None in practice; the template is fixed.
    pub fn glm4() -> Result<ChatTemplate, GlmError> {
        ChatTemplate::new(String::from(GLM4))
    }

    /// Compiles a template.
    ///
    /// # Errors
    /// [`GlmError::Template`] when it does not parse or uses a namespace otherwise than by its attributes,
    /// [`GlmError::TemplateTooLong`].
    pub fn new(source: String) -> Result<ChatTemplate, GlmError> {
        if source.len() > MAX_TEMPLATE {
            return Err(GlmError::TemplateTooLong { bytes: source.len(), most: MAX_TEMPLATE });
        }
        on_a_stack(source.len() * STACK_A_BYTE, || ChatTemplate::compile(source))
    }

    fn compile(source: String) -> Result<ChatTemplate, GlmError> {
        namespaces::check(&source).map_err(template_error)?;
        let mut environment = Environment::new();
        // An error would carry the template's values away from the stack that they need.
        environment.set_debug(false);
        // There is no other file, and one that takes in itself would have its names as values.
        environment.set_path_join_callback(|name, _| format!("a file beside {NAME}: {name}").into());
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(template_error)?);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", raise_exception);
        environment.remove_global("debug");
        environment.add_template_owned(NAME, source).map_err(template_error)?;
        Ok(ChatTemplate { environment })
    }

    /// Renders the conversation up to where the assistant is to answer. `control_tokens` are the texts that must not
    /// become control tokens when a message spells them out.
    ///
    /// # Errors
    /// [`GlmError::Template`] when the template refuses or runs out of steps, [`GlmError::TemplateOutput`].
    pub fn render(
        &self,
        messages: &[Message],
        control_tokens: &[String],
    ) -> Result<Vec<PromptPiece>, GlmError> {
        let stack = usize::try_from(fuel(messages)).unwrap_or(usize::MAX).saturating_mul(STACK_A_STEP);
        on_a_stack(stack, || self.render_here(messages, control_tokens))
    }

    fn render_here(
        &self,
        messages: &[Message],
        control_tokens: &[String],
    ) -> Result<Vec<PromptPiece>, GlmError> {
        let guard = Guard::new(messages, control_tokens)?;
        let guarded: Vec<Message> =
            messages.iter().map(|turn| Message::new(&turn.role, guard.hide(&turn.content))).collect();
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(fuel(messages)));
        let template = environment.get_template(NAME).map_err(template_error)?;
        let context = context! { messages => Value::from(Serde(&guarded)), add_generation_prompt => true };
        let mut output = Limited { bytes: Vec::new() };
        let rendered = template.render_captured_to(context, &mut output).map(drop);
        if output.bytes.len() > MAX_OUTPUT {
            return Err(GlmError::TemplateOutput { limit: MAX_OUTPUT });
        }
        rendered.map_err(template_error)?;
        Ok(guard.split(&String::from_utf8_lossy(&output.bytes)))
    }
}

/// Runs something on a thread with so many bytes of stack and some more.
fn on_a_stack<R: Send>(
    bytes: usize,
    run: impl FnOnce() -> Result<R, GlmError> + Send,
) -> Result<R, GlmError> {
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().stack_size(STACK.saturating_add(bytes));
        let thread = builder.spawn_scoped(scope, run).map_err(|source| GlmError::TemplateStack { source })?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Steps that a template may take for these messages.
fn fuel(messages: &[Message]) -> u64 {
    let bytes: usize = messages.iter().map(|turn| turn.role.len() + turn.content.len()).sum();
    let of_messages = (messages.len() as u64).saturating_mul(FUEL_A_MESSAGE);
    FUEL.saturating_add(of_messages).saturating_add(bytes as u64 / BYTES_A_STEP)
}

fn template_error(source: minijinja::Error) -> GlmError {
    GlmError::Template { source }
}

/// `chat_template` is a text, or a list of named ones of which `default` counts.
fn template_of(tokenizer_config: &str) -> Result<Option<String>, GlmError> {
    let json = |source| GlmError::Json { file: String::from("tokenizer_config.json"), source };
    let Strict(config) = serde_json::from_str(tokenizer_config).map_err(json)?;
    let Some(template) = config.get(NAME) else { return Ok(None) };
    let named = template.as_array().into_iter().flatten();
    let default = named.into_iter().find(|one| one.get("name").is_some_and(|name| name == "default"));
    let text = template.as_str().or_else(|| default?.get("template")?.as_str());
    Ok(text.map(str::to_owned))
}

/// Refuses to grow beyond the limit, which ends the rendering.
struct Limited {
    bytes: Vec<u8>,
}

impl std::io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > MAX_OUTPUT {
            return Err(std::io::Error::other("the output limit is reached"));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Replaces control tokens in messages by a mark that no message holds, so that they survive the template unseen and
/// can be told from the template's own.
struct Guard<'a> {
    mark: char,
    tokens: Vec<&'a str>,
    /// Finds them all in one pass, of two at one place the longer.
    finder: AhoCorasick,
}

impl<'a> Guard<'a> {
    fn new(messages: &[Message], control_tokens: &'a [String]) -> Result<Guard<'a>, GlmError> {
        let used = |mark: &char| messages.iter().any(|turn| turn.content.contains(*mark));
        // Messages cannot hold every private character, short of being longer than any context.
        let mark = ('\u{f0000}'..='\u{ffffd}').find(|mark| !used(mark)).unwrap_or('\u{f0000}');
        let tokens: Vec<&str> =
            control_tokens.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
        let finder = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&tokens);
        let finder = finder.map_err(|error| TokenizerError::Library { reason: error.to_string() })?;
        Ok(Guard { mark, tokens, finder })
    }

    /// `content` with each control token as mark, index, mark.
    fn hide(&self, content: &str) -> String {
        let mut hidden = String::with_capacity(content.len());
        self.finder.replace_all_with(content, &mut hidden, |found, _, hidden| {
            let index = found.pattern().as_usize();
            hidden.push_str(&format!("{0}{index}{0}", self.mark));
            true
        });
        hidden
    }

    /// The rendered text, cut at the marks.
    fn split(&self, rendered: &str) -> Vec<PromptPiece> {
        let parts = rendered.split(self.mark).enumerate();
        let piece = |(at, part): (usize, &str)| match part
            .parse::<usize>()
            .ok()
            .and_then(|index| self.tokens.get(index))
        {
            Some(token) if at % 2 == 1 => PromptPiece::Literal((*token).to_owned()),
            _ => PromptPiece::Template(part.to_owned()),
        };
        parts.map(piece).filter(|piece| *piece != PromptPiece::Template(String::new())).collect()
    }
}

fn raise_exception(message: String) -> Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
}

/// Python's `json.dumps` as transformers calls it: separators `", "` and `": "`, key order kept, no HTML escapes.
fn to_json(value: Value, options: Kwargs) -> Result<Value, minijinja::Error> {
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    let indent: Option<usize> = options.get("indent")?;
    options.assert_all_used()?;
    if indent.is_some_and(|indent| indent > MAX_INDENT) {
        return Err(no_json("an indent that wide"));
    }
    let mut text = String::new();
    write_json(&value, indent, 0, &mut text)?;
    if ascii == Some(true) {
        text = text.chars().map(escaped_to_ascii).collect();
    }
    Ok(Value::from_safe_string(text))
}

fn escaped_to_ascii(character: char) -> String {
    if character.is_ascii() {
        return character.to_string();
    }
    let mut units = [0; 2];
    character.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
}

/// Values are written where they stand, and one may stand in many places: depth and length end what the steps do not see.
fn write_json(
    value: &Value,
    indent: Option<usize>,
    depth: usize,
    text: &mut String,
) -> Result<(), minijinja::Error> {
    if depth > MAX_JSON_DEPTH {
        return Err(no_json("values that deep"));
    }
    if text.len() > MAX_JSON {
        return Err(no_json("a text that long"));
    }
    let line = |text: &mut String, depth: usize| {
        if let Some(width) = indent {
            text.push('\n');
            text.push_str(&" ".repeat(width * depth));
        }
    };
    let comma = if indent.is_some() { "," } else { ", " };
    match value.kind() {
        ValueKind::Map => {
            text.push('{');
            let keys: Vec<Value> = value.try_iter()?.collect();
            for (at, key) in keys.iter().enumerate() {
                text.push_str(if at > 0 { comma } else { "" });
                line(text, depth + 1);
                text.push_str(&json_scalar(&Value::from(key.to_string()))?);
                text.push_str(": ");
                write_json(&value.get_item(key)?, indent, depth + 1, text)?;
            }
            if !keys.is_empty() {
                line(text, depth);
            }
            text.push('}');
        }
        ValueKind::Seq | ValueKind::Iterable => {
            text.push('[');
            let items: Vec<Value> = value.try_iter()?.collect();
            for (at, item) in items.iter().enumerate() {
                text.push_str(if at > 0 { comma } else { "" });
                line(text, depth + 1);
                write_json(item, indent, depth + 1, text)?;
            }
            if !items.is_empty() {
                line(text, depth);
            }
            text.push(']');
        }
        _ => text.push_str(&json_scalar(value)?),
    }
    Ok(())
}

fn no_json(what: &str) -> minijinja::Error {
    minijinja::Error::new(ErrorKind::BadSerialization, format!("tojson does not write {what}"))
}

fn json_scalar(value: &Value) -> Result<String, minijinja::Error> {
    serde_json::to_string(value).map_err(|error| {
        minijinja::Error::new(ErrorKind::BadSerialization, "no JSON value").with_source(error)
    })
}
