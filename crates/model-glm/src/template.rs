use std::fs;
use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value, ValueKind};
use minijinja::{Environment, ErrorKind, context};
use serde::Serialize;

use crate::GlmError;
use crate::gguf::{self, Gguf};
use crate::json::Strict;

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
/// Steps that a template may take. GLM-4.6's takes a few hundred per message.
const FUEL: u64 = 5_000_000;
/// Bytes that a template may write.
const MAX_OUTPUT: usize = 16 << 20;
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
        if let Ok(source) = fs::read_to_string(folder.join("chat_template.jinja")) {
            return Ok(Some(source));
        }
        match fs::read_to_string(folder.join("tokenizer_config.json")) {
            Ok(text) => template_of(&text),
            Err(_) => Ok(None),
        }
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
    /// [`GlmError::Template`] when it does not parse.
    pub fn new(source: String) -> Result<ChatTemplate, GlmError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(template_error)?);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", raise_exception);
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
        let guard = Guard::new(messages, control_tokens);
        let guarded: Vec<Message> =
            messages.iter().map(|turn| Message::new(&turn.role, guard.hide(&turn.content))).collect();
        let template = self.environment.get_template(NAME).map_err(template_error)?;
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
    /// Longest first, so that a token that contains another is found as itself.
    tokens: Vec<&'a str>,
}

impl<'a> Guard<'a> {
    fn new(messages: &[Message], control_tokens: &'a [String]) -> Guard<'a> {
        let used = |mark: &char| messages.iter().any(|turn| turn.content.contains(*mark));
        // Messages cannot hold every private character, short of being longer than any context.
        let mark = ('\u{f0000}'..='\u{ffffd}').find(|mark| !used(mark)).unwrap_or('\u{f0000}');
        let mut tokens: Vec<&str> =
            control_tokens.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
        tokens.sort_by_key(|text| std::cmp::Reverse(text.len()));
        Guard { mark, tokens }
    }

    /// `content` with each control token as mark, index, mark.
    fn hide(&self, content: &str) -> String {
        let mut hidden = content.to_owned();
        for (index, token) in self.tokens.iter().enumerate() {
            if hidden.contains(token) {
                hidden = hidden.replace(token, &format!("{0}{index}{0}", self.mark));
            }
        }
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

fn write_json(
    value: &Value,
    indent: Option<usize>,
    depth: usize,
    text: &mut String,
) -> Result<(), minijinja::Error> {
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

fn json_scalar(value: &Value) -> Result<String, minijinja::Error> {
    serde_json::to_string(value).map_err(|error| {
        minijinja::Error::new(ErrorKind::BadSerialization, "no JSON value").with_source(error)
    })
}
