//! From text to token ids and back. Two tokenizers of one file: the whole one for what the chat template
//! writes, and one that knows no control token for everything that people, files and models wrote.

mod control;
mod files;
mod shared_model;
mod stop;

use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use tokenizers::{
    AddedToken, ModelWrapper, NormalizerWrapper, OffsetReferential, OffsetType, PostProcessor,
    PreTokenizerWrapper,
};

use crate::{Error, ModelConfig, Result, TokenId};
use shared_model::SharedTokenizer;
pub use stop::stop_ids;

/// A model's tokenizer. Cheap to clone.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
}

struct Inner {
    full: SharedTokenizer,
    /// Without control tokens and post-processor.
    plain: SharedTokenizer,
    /// `plain` without the space that some vocabularies put before a text; `None` where it would be the same.
    continuing: Option<SharedTokenizer>,
    /// Only the first stretch of a text gets that space.
    space_at_start_only: bool,
    /// Added tokens keep their ids although `plain` numbers them anew.
    renumbered: HashMap<TokenId, TokenId>,
    control: BTreeSet<TokenId>,
    /// Longest first.
    control_strings: Vec<String>,
    unknown: Option<TokenId>,
    bos: Option<TokenId>,
    begins_with_bos: bool,
    adds_bos_to_chats: bool,
    thinking_marks: Option<(TokenId, TokenId)>,
    vocabulary_size: usize,
}

/// What stands before a stretch of plain text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    /// Nothing: the stretch begins the prompt.
    Nothing,
    /// A control token.
    Control,
    /// Ids of a reply, which the stretch continues.
    Reply,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tokenizer").field("vocabulary_size", &self.inner.vocabulary_size).finish()
    }
}

impl Tokenizer {
    /// Opens `tokenizer.json`, or else `vocab.json` with `merges.txt`. `template_source`: added tokens that
    /// the chat template writes are control tokens, whatever the file calls them.
    ///
    /// # Errors
    /// [`Error::FileMissing`] naming what is missing, [`Error::FileDamaged`] for files that are no tokenizer
    /// or above 64 MB, [`Error::FileUnreadable`].
    pub fn open(folder: &Path, config: &ModelConfig, template_source: Option<&str>) -> Result<Self> {
        let (path, bytes) = files::read(folder, config)?;
        let damaged = |reason: String, source| Error::FileDamaged { path: path.clone(), reason, source };
        // The library asserts on some contradictions inside of a file.
        let built = catch_unwind(AssertUnwindSafe(|| {
            let full = SharedTokenizer::from_bytes(&bytes)?;
            Inner::new(full, config, template_source.unwrap_or_default())
        }));
        let inner = match built {
            Ok(Ok(inner)) => inner,
            Ok(Err(source)) => {
                let reason = "it is no tokenizer that can be read".to_owned();
                return Err(damaged(reason, Some(source)));
            }
            Err(_) => return Err(damaged("its parts contradict each other".to_owned(), None)),
        };
        if let Some(reason) = files::misnumbered(&bytes, &inner.full) {
            return Err(damaged(reason, None));
        }
        Ok(Self { inner: Arc::new(inner) })
    }

    /// One more than the highest id.
    pub fn vocabulary_size(&self) -> usize {
        self.inner.vocabulary_size
    }

    /// Encodes text that a chat template wrote: control tokens become their ids. Nothing is added.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn encode_scaffold(&self, text: &str) -> Result<Vec<TokenId>> {
        encode_with(&self.inner.full, text)
    }

    /// Encodes text that anybody wrote: no control token, whatever it says. Nothing is added.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn encode_content(&self, text: &str) -> Result<Vec<TokenId>> {
        self.encode_stretch(text, Before::Nothing)
    }

    /// Encodes text for a raw continuation: content, with one BOS before it where the model wants that.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn encode_plain(&self, text: &str) -> Result<Vec<TokenId>> {
        let mut ids = self.encode_content(text)?;
        if let (true, Some(bos)) = (self.inner.begins_with_bos, self.inner.bos) {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// The text of ids, control tokens shown. Ids outside of the vocabulary have no text.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn decode(&self, ids: &[TokenId]) -> Result<String> {
        self.decode_with(ids, false)
    }

    /// The text of ids without special tokens.
    pub(crate) fn decode_visible(&self, ids: &[TokenId]) -> Result<String> {
        self.decode_with(ids, true)
    }

    fn decode_with(&self, ids: &[TokenId], skip_special: bool) -> Result<String> {
        guarded("decode these ids", || self.inner.full.decode(ids, skip_special))
    }

    /// The id of a token by its exact text.
    pub fn token_id(&self, text: &str) -> Option<TokenId> {
        self.inner.full.token_to_id(text)
    }

    /// The text of a token as the vocabulary spells it (`Ġthe`, `▁the`, `<|im_end|>`).
    pub fn token_text(&self, id: TokenId) -> Option<String> {
        self.inner.full.id_to_token(id)
    }

    /// Ids that only the chat template may write.
    pub fn control_ids(&self) -> &BTreeSet<TokenId> {
        &self.inner.control
    }

    /// Texts of the control tokens, longest first.
    pub fn control_strings(&self) -> &[String] {
        &self.inner.control_strings
    }

    /// The ids that open and close the model's thinking, where each is one token.
    pub fn thinking_marks(&self) -> Option<(TokenId, TokenId)> {
        self.inner.thinking_marks
    }

    /// The id of the token that begins a text.
    pub fn bos_id(&self) -> Option<TokenId> {
        self.inner.bos
    }

    /// Whether a chat whose template prints no BOS token begins with one.
    pub(crate) fn adds_bos_to_chats(&self) -> bool {
        self.inner.adds_bos_to_chats
    }

    pub(crate) fn is_special(&self, id: TokenId) -> bool {
        let added = self.inner.full.get_added_vocabulary();
        added.simple_id_to_token(id).is_some_and(|text| added.is_special_token(&text))
    }

    /// Whether the token stands for a single byte (`<0x0A>`), which only its neighbours make a character.
    pub(crate) fn is_byte(&self, id: TokenId) -> bool {
        self.token_text(id).is_some_and(|text| {
            text.len() == 6
                && text.ends_with('>')
                && text.strip_prefix("<0x").is_some_and(|hex| u8::from_str_radix(&hex[..2], 16).is_ok())
        })
    }

    /// Where control tokens stand in `text`: byte range (with whitespace that the token swallows) and id.
    pub(crate) fn find_control(&self, text: &str) -> Result<Vec<(std::ops::Range<usize>, TokenId)>> {
        guarded("find control tokens", || {
            let full = &self.inner.full;
            let pieces = full.get_added_vocabulary().extract_and_normalize(full.get_normalizer(), text);
            let splits = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
            let tokens = splits.into_iter().filter_map(|(_, (start, end), tokens)| {
                let id = tokens.as_ref()?.first()?.id;
                self.inner.control.contains(&id).then_some((start..end, id))
            });
            Ok(tokens.collect())
        })
    }

    /// Encodes one stretch of text between control tokens, as content.
    pub(crate) fn encode_stretch(&self, text: &str, before: Before) -> Result<Vec<TokenId>> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let continues =
            before == Before::Reply || (before == Before::Control && self.inner.space_at_start_only);
        let tokenizer = match &self.inner.continuing {
            Some(continuing) if continues => continuing,
            _ => &self.inner.plain,
        };
        let mut ids = encode_with(tokenizer, text)?;
        for id in &mut ids {
            *id = self.inner.renumbered.get(id).copied().unwrap_or(*id);
        }
        if !ids.iter().any(|id| self.inner.control.contains(id) && Some(*id) != self.inner.unknown) {
            return Ok(ids);
        }
        // The vocabulary itself can spell a control token. Cut through the middle it cannot.
        let middle = text.char_indices().map(|(index, _)| index).nth(text.chars().count() / 2).unwrap_or(0);
        if middle == 0 {
            ids.retain(|id| !self.inner.control.contains(id));
            return Ok(ids);
        }
        let mut ids = self.encode_stretch(&text[..middle], before)?;
        ids.extend(self.encode_stretch(&text[middle..], Before::Reply)?);
        Ok(ids)
    }
}

/// Runs a call of the library; a panic inside of it becomes an error.
fn guarded<T>(doing: &'static str, call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(Error::Tokenizer { doing, source: Some(source) }),
        Err(_) => Err(Error::Tokenizer { doing, source: None }),
    }
}

fn encode_with(tokenizer: &SharedTokenizer, text: &str) -> Result<Vec<TokenId>> {
    guarded("encode this text", || Ok(tokenizer.encode_fast(text, false)?.get_ids().to_vec()))
}

impl Inner {
    fn new(mut full: SharedTokenizer, config: &ModelConfig, template: &str) -> tokenizers::Result<Self> {
        // A file can ask to cut texts or to fill them up; a conversation wants neither.
        full.with_truncation(None)?;
        full.with_padding(None);
        let mut added: Vec<(TokenId, AddedToken)> = full.get_added_tokens_decoder().into_iter().collect();
        added.sort_by_key(|(id, _)| *id);
        let (control, ordinary) = control::divide(added, config, template);

        let mut plain = SharedTokenizer::new(full.get_model().clone());
        plain.with_normalizer(full.get_normalizer().cloned())?;
        plain.with_pre_tokenizer(full.get_pre_tokenizer().cloned());
        plain.with_decoder(full.get_decoder().cloned());
        plain.add_tokens(ordinary.iter().map(|(_, token)| token.clone()))?;
        let renumbered = ordinary
            .iter()
            .filter_map(|(id, token)| Some((plain.token_to_id(&token.content)?, *id)))
            .filter(|(plain_id, id)| plain_id != id)
            .collect();

        let pre_tokenizer = serde_json::to_value(full.get_pre_tokenizer())?;
        let id = |text: &Option<String>| text.as_ref().and_then(|text| full.token_to_id(text));
        let unknown_of_model = match full.get_model().get() {
            ModelWrapper::BPE(model) => model.get_unk_token().clone(),
            ModelWrapper::WordPiece(model) => Some(model.unk_token.clone()),
            ModelWrapper::WordLevel(model) => Some(model.unk_token.clone()),
            ModelWrapper::Unigram(_) => config.unknown_token.clone(),
        };
        let marks = full.token_to_id("<think>").zip(full.token_to_id("</think>"));
        let bos_of_file = first_added(&full);
        Ok(Self {
            continuing: continuing(&plain)?,
            space_at_start_only: pre_tokenizer.to_string().contains(r#""prepend_scheme":"first""#),
            renumbered,
            unknown: id(&unknown_of_model),
            bos: id(&config.bos_token).or(bos_of_file),
            begins_with_bos: config.add_bos_token.unwrap_or(bos_of_file.is_some()),
            adds_bos_to_chats: config.add_bos_token == Some(true),
            thinking_marks: marks,
            vocabulary_size: vocabulary_size(&full),
            control: control.iter().map(|(id, _)| *id).collect(),
            control_strings: control::longest_first(control),
            plain,
            full,
        })
    }
}

/// One more than the highest id. Ids are nearly always in a row, and then they are counted: the library can
/// list them only as a copy of the whole vocabulary.
fn vocabulary_size(full: &SharedTokenizer) -> usize {
    let total = full.get_vocab_size(true);
    let is_in_a_row = (0..total).all(|id| full.id_to_token(id as TokenId).is_some());
    if is_in_a_row && full.id_to_token(total as TokenId).is_none() {
        return total;
    }
    full.get_vocab(true).values().max().map_or(0, |id| *id as usize + 1)
}

/// The single token that the file's post-processor puts before every text.
fn first_added(full: &SharedTokenizer) -> Option<TokenId> {
    let processor = full.get_post_processor()?;
    if processor.added_tokens(false) == 0 {
        return None;
    }
    let with = full.encode_fast("x", true).ok()?;
    let without = full.encode_fast("x", false).ok()?;
    let (with, without) = (with.get_ids(), without.get_ids());
    let begins = with.get(1..)?.starts_with(without) && with.first() != without.first();
    begins.then(|| with[0])
}

/// `plain` without any space put before a text, or `None` where it puts none.
fn continuing(plain: &SharedTokenizer) -> tokenizers::Result<Option<SharedTokenizer>> {
    let normalizer = serde_json::to_value(plain.get_normalizer())?;
    let pre_tokenizer = serde_json::to_value(plain.get_pre_tokenizer())?;
    let without_normalizer = control::without_prepend(normalizer.clone());
    let without_pre_tokenizer = control::without_prefix_space(pre_tokenizer.clone());
    if normalizer == without_normalizer && pre_tokenizer == without_pre_tokenizer {
        return Ok(None);
    }
    let mut continuing = plain.clone();
    continuing.with_normalizer(serde_json::from_value::<Option<NormalizerWrapper>>(without_normalizer)?)?;
    continuing
        .with_pre_tokenizer(serde_json::from_value::<Option<PreTokenizerWrapper>>(without_pre_tokenizer)?);
    Ok(Some(continuing))
}
