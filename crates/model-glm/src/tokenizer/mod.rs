mod error;
mod json;

use std::path::Path;

use crate::files::{self, MAX_TOKENIZER};
use crate::gguf::{self, Gguf};
use crate::template::PromptPiece;
use crate::{GlmError, TokenId};

pub use error::TokenizerError;

/// Text to token ids and back, as `tokenizer.json` or a GGUF file says.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    /// Reads the texts of control tokens as these tokens.
    control: tokenizers::Tokenizer,
    /// Reads them as the plain characters they are.
    plain: tokenizers::Tokenizer,
}

impl Tokenizer {
    /// Reads the vocabulary of a GGUF file, or `tokenizer.json` of a checkpoint folder.
    ///
    /// # Errors
    /// [`GlmError::Read`], and those of [`Tokenizer::from_json`] and [`Tokenizer::from_gguf`].
    pub fn open(path: &Path) -> Result<Tokenizer, GlmError> {
        if gguf::is_gguf(path) {
            return gguf::open(path, Tokenizer::from_gguf);
        }
        Tokenizer::from_json(&files::read_text(&path.join("tokenizer.json"), MAX_TOKENIZER)?)
    }

    /// Reads the text of a `tokenizer.json` of byte-level BPE, as the GLM family has it. What it says of padding, truncation
    /// and tokens around a text does not count.
    ///
    /// # Errors
    /// [`GlmError::Tokenizer`] with what is wrong.
    pub fn from_json(text: &str) -> Result<Tokenizer, GlmError> {
        Ok(Tokenizer::new(json::read(text)?))
    }

    /// Builds GLM-4's byte-level BPE from the tokens, their types and the merges of a GGUF file.
    ///
    /// # Errors
    /// [`GlmError::Gguf`] for another tokenizer, wrong tokens or wrong merges, [`GlmError::MissingKey`],
    /// [`GlmError::BadKey`].
    pub fn from_gguf(gguf: &Gguf<'_>) -> Result<Tokenizer, GlmError> {
        Ok(Tokenizer::new(gguf::read_tokenizer(gguf)?))
    }

    fn new(control: tokenizers::Tokenizer) -> Tokenizer {
        let mut plain = control.clone();
        plain.set_encode_special_tokens(true);
        Tokenizer { control, plain }
    }

    /// The ids of a rendered prompt. Nothing is added: the template writes `[gMASK]<sop>` itself. Control tokens that a
    /// message spells out are read as plain characters, never as control ids.
    ///
    /// # Errors
    /// [`GlmError::Tokenizer`].
    pub fn encode_prompt(&self, prompt: &[PromptPiece]) -> Result<Vec<TokenId>, GlmError> {
        let mut ids = Vec::new();
        for piece in prompt {
            let encoding = match piece {
                PromptPiece::Template(text) => self.control.encode(text.as_str(), false),
                PromptPiece::Literal(text) => self.plain.encode(text.as_str(), false),
            };
            ids.extend_from_slice(encoding.map_err(failed)?.get_ids());
        }
        Ok(ids)
    }

    /// The ids of plain text, without control tokens.
    ///
    /// # Errors
    /// [`GlmError::Tokenizer`].
    pub fn encode(&self, text: &str) -> Result<Vec<TokenId>, GlmError> {
        Ok(self.plain.encode(text, false).map_err(failed)?.get_ids().to_vec())
    }

    /// The text of ids, control tokens left out. Bytes that are no UTF-8 come out as U+FFFD.
    ///
    /// # Errors
    /// [`GlmError::Tokenizer`].
    pub fn decode(&self, ids: &[TokenId]) -> Result<String, GlmError> {
        self.control.decode(ids, true).map_err(failed)
    }

    /// The id of a token by its text.
    pub fn id(&self, token: &str) -> Option<TokenId> {
        self.control.token_to_id(token)
    }

    /// The texts of the control tokens (`<|user|>`, `[gMASK]`, ...).
    pub fn control_tokens(&self) -> Vec<String> {
        let added = self.control.get_added_tokens_decoder();
        added.into_values().filter(|token| token.special).map(|token| token.content).collect()
    }

    /// Tokens in the vocabulary, control tokens included.
    pub fn vocab_size(&self) -> usize {
        self.control.get_vocab_size(true)
    }
}

fn failed(error: tokenizers::Error) -> GlmError {
    TokenizerError::Library { reason: error.to_string() }.into()
}

/// Turns ids into text as they come. A character whose bytes are spread over tokens comes out when it is whole.
#[derive(Debug)]
pub struct Detokenizer<'t> {
    tokenizer: &'t Tokenizer,
    /// The ids whose text is not all out, with those before them that give it its context.
    ids: Vec<TokenId>,
    /// Bytes of the decoded `ids` that are out.
    out: usize,
}

impl<'t> Detokenizer<'t> {
    /// Starts a text.
    pub fn new(tokenizer: &'t Tokenizer) -> Detokenizer<'t> {
        Detokenizer { tokenizer, ids: Vec::new(), out: 0 }
    }

    /// Takes the next id and gives the text that is now certain; it may be empty.
    ///
    /// # Errors
    /// [`GlmError::Tokenizer`].
    pub fn push(&mut self, id: TokenId) -> Result<String, GlmError> {
        self.ids.push(id);
        let text = self.tokenizer.decode(&self.ids)?;
        if text.ends_with(char::REPLACEMENT_CHARACTER) {
            return Ok(String::new());
        }
        let new = text.get(self.out..).unwrap_or_default().to_owned();
        self.forget(&text)?;
        Ok(new)
    }

    /// Ends the text and gives what was held back.
    ///
    /// # Errors
    /// [`GlmError::Tokenizer`].
    pub fn finish(self) -> Result<String, GlmError> {
        let text = self.tokenizer.decode(&self.ids)?;
        Ok(text.get(self.out..).unwrap_or_default().to_owned())
    }

    /// Keeps only the ids that the next text can depend on.
    fn forget(&mut self, text: &str) -> Result<(), GlmError> {
        const CONTEXT: usize = 8;
        self.out = text.len();
        if self.ids.len() >= 2 * CONTEXT {
            self.ids.drain(..self.ids.len() - CONTEXT);
            self.out = self.tokenizer.decode(&self.ids)?.len();
        }
        Ok(())
    }
}
