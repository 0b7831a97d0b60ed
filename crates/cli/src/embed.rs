//! `hearth embed`: texts as vectors, and how close they lie.

use backend::{EmbedContext, EmbedRequest, Embedding, EmbeddingSource};
use serde_json::json;

use crate::arguments::EmbedArguments;
use crate::error::Result;
use crate::input::{Input, StdinLines};
use crate::interrupt::Interrupts;
use crate::print::Printer;
use crate::run::Run;

/// The most texts whose cosines fit on a screen.
const MOST_COMPARED: usize = 20;
/// The numbers of a vector that are shown to people.
const SHOWN: usize = 6;

/// Embeds the texts of the command line, or the lines of stdin.
pub(crate) fn embed(run: &Run, command: &EmbedArguments, printer: &mut Printer) -> Result<()> {
    let interrupts = Interrupts::install()?;
    let loaded = run.load(&interrupts)?;
    run.tell_notices(printer);
    if loaded.is_none() {
        return Ok(());
    }
    let context = if command.carry { EmbedContext::Carried } else { EmbedContext::Alone };
    let mut texts = Texts { run, interrupts, printer, context, count: 0, compared: Vec::new() };
    if command.texts.is_empty() {
        texts.over_stdin(&mut StdinLines::new(command.input))?;
    } else {
        for text in &command.texts {
            if !texts.add(text.clone())? {
                break;
            }
        }
    }
    texts.compare();
    run.end()
}

/// The texts that were embedded so far.
struct Texts<'r> {
    run: &'r Run,
    interrupts: Interrupts,
    printer: &'r mut Printer,
    context: EmbedContext,
    count: usize,
    /// As many as are compared, and one more where there are too many.
    compared: Vec<Embedding>,
}

impl Texts<'_> {
    /// Does what the lines of stdin ask for. The first failure is the end, and so is Ctrl-C.
    fn over_stdin(&mut self, lines: &mut StdinLines) -> Result<()> {
        while let Some(input) = lines.next_input()? {
            let goes_on = match input {
                Input::Message(text) => self.add(text)?,
                Input::Reset => {
                    self.ask(Vec::new(), EmbedContext::Restarted)?;
                    self.printer.reset();
                    true
                }
            };
            self.printer.check()?;
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    /// Embeds one text and prints its vector; `false` where Ctrl-C came first.
    fn add(&mut self, text: String) -> Result<bool> {
        let Some(mut embeddings) = self.ask(vec![text.clone()], self.context)? else { return Ok(false) };
        for embedding in embeddings.drain(..) {
            self.print(&text, &embedding);
            self.count += 1;
            if self.compared.len() <= MOST_COMPARED {
                self.compared.push(embedding);
            }
        }
        Ok(true)
    }

    fn ask(&self, texts: Vec<String>, context: EmbedContext) -> Result<Option<Vec<Embedding>>> {
        let running = self.run.inference().embed(EmbedRequest { texts, context });
        let canceller = running.canceller();
        let _working = self.interrupts.working(move || canceller.cancel());
        Ok(self.run.wait(running.embedded())?)
    }

    fn print(&mut self, text: &str, embedding: &Embedding) {
        let dimensions = embedding.values.len();
        if self.printer.is_json() {
            return self.printer.json_line(&json!({
                "type": "embedding",
                "index": self.count,
                "tokens": embedding.tokens,
                "context_length": embedding.context_length,
                "source": embedding.source,
                "dimensions": dimensions,
                "embedding": embedding.values,
            }));
        }
        let source = match embedding.source {
            EmbeddingSource::HiddenState => "of the hidden state",
            EmbeddingSource::Logits => "of the logits",
        };
        let numbers: Vec<String> =
            embedding.values.iter().take(SHOWN).map(|value| format!("{value:.4}")).collect();
        let (number, tokens, context) = (self.count + 1, embedding.tokens, embedding.context_length);
        self.printer.line(&format!("{number}  {}", shortened(text)));
        self.printer.line(&format!(
            "   {dimensions} dimensions {source}, {tokens} tokens, context {context}: {} …",
            numbers.join(" ")
        ));
    }

    /// Prints the cosine of every pair.
    fn compare(&mut self) {
        if self.printer.is_json() || self.compared.len() < 2 {
            return;
        }
        if self.compared.len() > MOST_COMPARED {
            return self.printer.aside(&format!("More than {MOST_COMPARED} texts are not compared here."));
        }
        let mut header = "cosine".to_owned();
        (1..=self.compared.len()).for_each(|number| header.push_str(&format!(" {number:>6}")));
        self.printer.line(&header);
        for (index, left) in self.compared.iter().enumerate() {
            let mut row = format!("{:>6}", index + 1);
            self.compared.iter().for_each(|right| row.push_str(&format!(" {:>6.3}", left.cosine(right))));
            self.printer.line(&row);
        }
    }
}

/// The beginning of a text on one line.
fn shortened(text: &str) -> String {
    const MOST: usize = 72;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
