//! From messages to the token ids of a prompt.
//!
//! What people, files and models wrote must never become a control token. Before the template runs,
//! placeholders of random digits take the place of every control string in foreign text; afterwards control
//! tokens are looked for only in what the template wrote, and everything else is encoded by a tokenizer that
//! knows none. A second rendering, in which whole messages are placeholders, shows which control tokens the
//! template writes by itself; where the two disagree, the second one counts.

mod placeholders;

use std::ops::Range;

use crate::session::common_prefix;
use crate::template::TemplateMessage;
use crate::tokenizer::Before;
use crate::{ChatTemplate, Error, Message, RenderOptions, Result, Role, TokenId, Tokenizer};
use placeholders::{Literal, Placeholders};

const THINKING_MARKS: [&str; 2] = ["</think>", "<think>"];

/// The token ids of a conversation. Replies that carry their ids keep them wherever the template prints
/// exactly the text they stand for, so that the KV cache can be used again.
///
/// # Errors
/// [`Error::Template`] where the template refuses the messages, fails or cuts them apart;
/// [`Error::Tokenizer`].
pub fn prompt_tokens(
    template: &ChatTemplate,
    tokenizer: &Tokenizer,
    messages: &[Message],
    options: &RenderOptions,
) -> Result<Vec<TokenId>> {
    let messages = fitted(template, messages);
    let careful = Rendering::new(template, tokenizer, &messages, options, Hide::Everything)?;
    let usual = Rendering::new(template, tokenizer, &messages, options, Hide::ControlStrings)?;
    let chosen =
        if usual.is_whole() && usual.control_ids() == careful.control_ids() { usual } else { careful };
    if chosen.is_cut_apart() {
        return Err(Error::Template {
            reason: "it cuts messages apart, and their text could not be told from its own".to_owned(),
            source: None,
        });
    }
    let mut ids = chosen.encode(tokenizer)?;
    begin_with_one_bos(&mut ids, template, tokenizer);
    Ok(ids)
}

/// The ids with which the prompt of the next turn begins, whatever is asked in it: the template may write the
/// replies of `messages` otherwise than they were generated, as where it drops their thinking.
///
/// # Errors
/// As [`prompt_tokens`].
pub fn next_turn_tokens(
    template: &ChatTemplate,
    tokenizer: &Tokenizer,
    messages: &[Message],
    options: &RenderOptions,
) -> Result<Vec<TokenId>> {
    let asking = |words: &str| {
        let messages = [messages, &[Message::user(words)]].concat();
        prompt_tokens(template, tokenizer, &messages, options)
    };
    // Two questions that share nothing: what both prompts begin with depends on neither.
    let (mut one, other) = (asking("a")?, asking("1")?);
    one.truncate(common_prefix(&one, &other));
    Ok(one)
}

/// Whether a prompt ends inside the model's thinking marks, so that the reply begins with thinking.
pub fn starts_thinking(prompt: &[TokenId], tokenizer: &Tokenizer) -> bool {
    let Some((open, _)) = tokenizer.thinking_marks() else { return false };
    prompt.iter().rev().find(|id| tokenizer.control_ids().contains(id)) == Some(&open)
}

/// The template writes the BOS token. One is added where it does not and the model wants one, and one of two
/// is taken away.
fn begin_with_one_bos(ids: &mut Vec<TokenId>, template: &ChatTemplate, tokenizer: &Tokenizer) {
    let Some(bos) = tokenizer.bos_id() else { return };
    if !template.traits().bos && tokenizer.adds_bos_to_chats() && ids.first() != Some(&bos) {
        ids.insert(0, bos);
    }
    while ids.len() > 1 && ids[0] == bos && ids[1] == bos {
        ids.remove(0);
    }
}

/// The messages as this template can take them.
fn fitted(template: &ChatTemplate, messages: &[Message]) -> Vec<Message> {
    let traits = template.traits();
    let mut fitted: Vec<Message> = Vec::with_capacity(messages.len());
    let mut pending_system: Vec<String> = Vec::new();
    for message in messages {
        let mut message = message.clone();
        if message.role == Role::System && !traits.system {
            pending_system.push(message.content);
            continue;
        }
        if message.role == Role::User && !pending_system.is_empty() {
            pending_system.push(message.content);
            message.content = std::mem::take(&mut pending_system).join("\n\n");
        }
        match fitted.last_mut() {
            // Two questions in a row are what a failed reply leaves behind.
            Some(last) if traits.alternation && last.role == message.role => {
                last.content = format!("{}\n\n{}", last.content, message.content);
                last.tokens = None;
                last.reasoning = None;
            }
            _ => fitted.push(message),
        }
    }
    fitted
}

/// How much foreign text placeholders hide from the template.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hide {
    /// Control strings, and replies whose ids are known.
    ControlStrings,
    /// Every text that is not blank.
    Everything,
}

/// One rendering of the conversation, and where in it is what.
struct Rendering {
    text: String,
    placeholders: Placeholders,
    /// Placeholders in `text`: byte range and index.
    found: Vec<(Range<usize>, usize)>,
    control: Vec<(Range<usize>, TokenId)>,
}

impl Rendering {
    fn new(
        template: &ChatTemplate,
        tokenizer: &Tokenizer,
        messages: &[Message],
        options: &RenderOptions,
        hide: Hide,
    ) -> Result<Self> {
        let mut placeholders = Placeholders::new(template.source(), messages);
        let mut hidden = Vec::with_capacity(messages.len());
        for message in messages {
            hidden.push(TemplateMessage {
                role: message.role.name(),
                content: hide_content(message, tokenizer, template, hide, &mut placeholders)?,
                reasoning_content: message.reasoning.as_deref().map(str::trim).map(|reasoning| {
                    if reasoning.is_empty() {
                        String::new()
                    } else {
                        placeholders.hide(Literal::aside(reasoning))
                    }
                }),
            });
        }
        let text = template.render(&hidden, options)?;
        let found = placeholders.find(&text);
        let control = tokenizer.find_control(&text)?;
        Ok(Self { text, placeholders, found, control })
    }

    fn control_ids(&self) -> impl PartialEq {
        self.control.iter().map(|(_, id)| *id).collect::<Vec<_>>()
    }

    /// Whether every placeholder of a content stands in the text once.
    fn is_whole(&self) -> bool {
        !self.is_cut_apart() && self.placeholders.all_once(&self.found)
    }

    fn is_cut_apart(&self) -> bool {
        self.placeholders.leaves_remnants(&self.text, &self.found)
    }

    /// Replies in `text` whose ids are known: byte range, with the thinking before them where the template
    /// keeps it, and ids.
    fn saved_replies(&self) -> Vec<(Range<usize>, &[TokenId])> {
        let saved = self.found.iter().filter_map(|(range, index)| {
            let literal = self.placeholders.get(*index);
            if let Some(tokens) = &literal.tokens {
                return Some((range.clone(), tokens.as_slice()));
            }
            let (start, tokens) = literal.tokens_with_thinking.as_ref()?;
            // The reasoning of a message is hidden right after its content.
            let start = start.replace('\0', &self.placeholders.name(index + 1));
            let before = self.text[..range.start].strip_suffix(start.as_str())?;
            Some((before.len()..range.end, tokens.as_slice()))
        });
        saved.collect()
    }

    fn encode(&self, tokenizer: &Tokenizer) -> Result<Vec<TokenId>> {
        let saved = self.saved_replies();
        let is_free = |range: &Range<usize>| {
            !saved.iter().any(|(reply, _)| reply.start <= range.start && range.start < reply.end)
        };
        let literals = self
            .found
            .iter()
            .map(|(range, index)| (range.clone(), Part::Text(&self.placeholders.get(*index).text)));
        let control = self.control.iter().map(|(range, id)| (range.clone(), Part::Control(*id)));
        let mut parts: Vec<(Range<usize>, Part)> =
            literals.chain(control).filter(|(range, _)| is_free(range)).collect();
        parts.extend(saved.iter().map(|(range, ids)| (range.clone(), Part::Reply(ids))));
        parts.sort_by_key(|(range, _)| range.start);

        let mut encoder =
            Encoder { tokenizer, ids: Vec::new(), stretch: String::new(), before: Before::Nothing };
        let mut position = 0;
        for (range, part) in parts {
            encoder.stretch.push_str(&self.text[position..range.start]);
            encoder.part(part)?;
            position = range.end;
        }
        encoder.stretch.push_str(&self.text[position..]);
        encoder.flush()?;
        Ok(encoder.ids)
    }
}

/// What stands in a rendered text between the words of the template.
enum Part<'a> {
    Control(TokenId),
    Text(&'a str),
    Reply(&'a [TokenId]),
}

/// A message's content as the template may see it.
fn hide_content(
    message: &Message,
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    hide: Hide,
    placeholders: &mut Placeholders,
) -> Result<String> {
    if message.content.trim().is_empty() {
        return Ok(message.content.clone());
    }
    if let (Role::Assistant, Some(tokens)) = (message.role, &message.tokens) {
        let text = if template.traits().trims_replies { message.content.trim() } else { &message.content };
        return Ok(placeholders.hide(saved_reply(text, message.reasoning.as_deref(), tokens, tokenizer)?));
    }
    Ok(match hide {
        Hide::Everything => placeholders.hide(Literal::content(&message.content)),
        Hide::ControlStrings => {
            // Templates cut replies at these marks even where they are no tokens.
            let marks = THINKING_MARKS.iter().filter(|mark| template.source().contains(**mark));
            let strings = tokenizer.control_strings().iter().map(String::as_str).chain(marks.copied());
            placeholders.hide_strings(&message.content, strings)
        }
    })
}

/// A reply with the ids that stand for exactly this text, where there are such ids.
fn saved_reply(
    text: &str,
    reasoning: Option<&str>,
    tokens: &[TokenId],
    tokenizer: &Tokenizer,
) -> Result<Literal> {
    let mut literal = Literal::content(text);
    let is_control = |id: &TokenId| tokenizer.control_ids().contains(id);
    let decoded = tokenizer.decode(tokens)?;
    if decoded.starts_with(text) && decoded[text.len()..].trim().is_empty() {
        // White space at the end was cut: so are the ids that stand for it.
        let mut kept = tokens;
        let mut length = decoded.len();
        while length > text.len() && !kept.is_empty() {
            kept = &kept[..kept.len() - 1];
            length = tokenizer.decode(kept)?.len();
        }
        if !kept.iter().any(is_control) && tokenizer.decode(kept)? == text {
            literal.tokens = Some(kept.to_vec());
        }
    } else if let Some(start) = decoded.strip_suffix(text) {
        let marks = tokenizer.thinking_marks();
        let is_mark = |id: &TokenId| marks.is_some_and(|(open, close)| *id == open || *id == close);
        let reasoning = reasoning.map(str::trim).filter(|reasoning| !reasoning.is_empty());
        if let Some(reasoning) = reasoning
            && start.matches(reasoning).count() == 1
            && tokens.iter().all(|id| !is_control(id) || is_mark(id))
        {
            literal.tokens_with_thinking = Some((start.replacen(reasoning, "\0", 1), tokens.to_vec()));
        }
    }
    Ok(literal)
}

/// Puts ids and stretches of text together.
struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    ids: Vec<TokenId>,
    /// Text since the last control token or reply.
    stretch: String,
    before: Before,
}

impl Encoder<'_> {
    fn part(&mut self, part: Part) -> Result<()> {
        match part {
            Part::Text(text) => self.stretch.push_str(text),
            Part::Control(id) => {
                self.flush()?;
                self.ids.push(id);
                self.before = Before::Control;
            }
            Part::Reply(ids) => {
                self.flush()?;
                self.ids.extend(ids);
                self.before = Before::Reply;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let stretch = std::mem::take(&mut self.stretch);
        self.ids.extend(self.tokenizer.encode_stretch(&stretch, self.before)?);
        Ok(())
    }
}
