//! `hearth chat`: a conversation with the model.

use std::io::IsTerminal;

use backend::{ChatEvent, FinishReason, ReplyOptions, ReplyStatus};

use crate::arguments::{ChatArguments, InputFormat, Options};
use crate::error::Result;
use crate::input::{Input, LineEditor, StdinLines};
use crate::interrupt::Interrupts;
use crate::lines::FinishedReply;
use crate::models;
use crate::print::Printer;
use crate::run::Run;

const COMMANDS: &str = "\
/reset      clears the model's memory of the conversation
/model ID   lets another model answer; without an ID, shows the models
/help       shows this
/quit       ends the program, as Ctrl-D does
A message that begins with a slash is typed with two. A line that ends in a backslash goes on in the next.
Ctrl-C stops a reply.";

/// Chats until there are no more messages.
pub(crate) fn chat(
    run: &Run,
    options: &Options,
    command: &ChatArguments,
    printer: &mut Printer,
) -> Result<()> {
    let interrupts = Interrupts::install()?;
    open_conversation(run, options, command)?;
    let loaded = run.load(&interrupts)?;
    run.tell_notices(printer);
    let Some(ready) = loaded else {
        printer.finish(&FinishedReply::default());
        return Ok(());
    };
    let mut dialogue = Dialogue { run, interrupts, options: options.reply(), printer };
    if let Some(prompt) = &command.prompt {
        dialogue.turn(prompt.clone())?;
    } else if is_for_people(options, command) {
        dialogue.printer.aside(&format!("{} answers. /help shows the commands.", ready.model.name));
        dialogue.in_the_terminal()?;
    } else {
        dialogue.over_stdin(command.input)?;
    }
    run.end()
}

/// Goes on in the conversation that the command line names, or begins one.
fn open_conversation(run: &Run, options: &Options, command: &ChatArguments) -> Result<()> {
    let backend = run.backend();
    match command.conversation {
        None => {
            backend.history().begin(command.private)?;
        }
        // The command line's word goes before what the conversation remembers.
        Some(id) if options.names_model() => backend.history().show(id)?,
        Some(id) => {
            run.wait(backend.open_conversation(id, 0))?;
        }
    }
    Ok(())
}

/// Whether somebody types the messages and reads the replies.
fn is_for_people(options: &Options, command: &ChatArguments) -> bool {
    let is_plain = command.input == InputFormat::Text && !options.json;
    is_plain && std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// The user and the model, in turns.
struct Dialogue<'r> {
    run: &'r Run,
    interrupts: Interrupts,
    options: ReplyOptions,
    printer: &'r mut Printer,
}

impl Dialogue<'_> {
    /// Reads messages and commands as they are typed. A failure is shown and the prompt comes back.
    fn in_the_terminal(&mut self) -> Result<()> {
        let mut editor = LineEditor::new()?;
        while let Some(line) = editor.next_message()? {
            let line = line.trim();
            let result = match line.strip_prefix('/') {
                _ if line.is_empty() => Ok(()),
                None => self.turn(line.to_owned()).map(|_| ()),
                // The second slash of two is where the message begins.
                Some(message) if message.starts_with('/') => self.turn(message.to_owned()).map(|_| ()),
                Some("quit") => return Ok(()),
                Some(command) => self.obey(command),
            };
            if let Err(error) = result {
                self.printer.error(&error);
            }
            self.printer.check()?;
        }
        Ok(())
    }

    /// Does what the lines of stdin ask for. The first failure is the end, and so is Ctrl-C.
    fn over_stdin(&mut self, format: InputFormat) -> Result<()> {
        let mut lines = StdinLines::new(format);
        while let Some(input) = lines.next_input()? {
            let reason = match input {
                Input::Message(text) => Some(self.turn(text)?),
                Input::Reset => {
                    self.reset()?;
                    None
                }
            };
            self.printer.check()?;
            if reason == Some(FinishReason::Cancelled) {
                break;
            }
        }
        Ok(())
    }

    /// Does what a line says that begins with a slash.
    fn obey(&mut self, command: &str) -> Result<()> {
        let (name, argument) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        match (name, argument.trim()) {
            ("help", "") => self.printer.aside(COMMANDS),
            ("reset", "") => self.reset()?,
            ("model", "") => models::print_all(self.run, self.printer),
            ("model", id) => {
                let selected =
                    self.run.until_interrupted(&self.interrupts, self.run.backend().select_model(id))?;
                self.run.tell_notices(self.printer);
                if let Some(ready) = selected {
                    self.printer.aside(&format!("{} answers from here on.", ready.model.name));
                }
            }
            _ => self.printer.aside(&format!("There is no command /{command}. /help shows those there are.")),
        }
        Ok(())
    }

    /// Clears the model's memory of the conversation.
    fn reset(&mut self) -> Result<()> {
        let chat = self.run.backend().chat();
        self.run.wait(chat.reset(chat.current()))?;
        self.printer.reset();
        Ok(())
    }

    /// One message and its reply, printed as it is made.
    fn turn(&mut self, text: String) -> Result<FinishReason> {
        let chat = self.run.backend().chat();
        let stopped = chat.clone();
        let working = self.interrupts.working(move || stopped.stop());
        let printer = &mut *self.printer;
        let reply = self.run.wait(chat.send(chat.current(), text, self.options.clone(), |event| {
            show(event, printer);
            if printer.is_closed() {
                chat.stop();
            }
        }))?;
        drop(working);
        self.run.tell_notices(self.printer);
        let reason = match reply.status {
            ReplyStatus::Failed(error) => return Err(error.into()),
            ReplyStatus::Finished(reason) => reason,
            ReplyStatus::Generating | ReplyStatus::Interrupted => FinishReason::Cancelled,
        };
        self.printer.finish(&FinishedReply {
            text: reply.text,
            token_ids: reply.tokens,
            reason: Some(reason),
            usage: reply.usage.map(|usage| usage.usage).unwrap_or_default(),
            seed: reply.seed,
        });
        Ok(reason)
    }
}

fn show(event: ChatEvent, printer: &mut Printer) {
    match event {
        ChatEvent::Started { .. } => {}
        ChatEvent::Prefill { done, total, reused } => printer.prefill(done, total, reused),
        ChatEvent::Thinking { text, .. } => printer.thinking(&text),
        ChatEvent::Text { text, .. } => printer.text(&text),
    }
}
