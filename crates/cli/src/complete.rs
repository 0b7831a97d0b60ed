//! `hearth complete`: a raw continuation, no chat template around it.

use backend::{Progress, Request, TokenId, Update};

use crate::arguments::{CompleteArguments, Options};
use crate::error::{Error, Result};
use crate::interrupt::Interrupts;
use crate::lines::FinishedReply;
use crate::print::Printer;
use crate::run::Run;

/// Continues a text or a row of token ids.
pub(crate) fn complete(
    run: &Run,
    options: &Options,
    command: &CompleteArguments,
    printer: &mut Printer,
) -> Result<()> {
    if options.system.is_some() {
        let reason = "--system has no meaning here: `hearth complete` continues text as it is".into();
        return Err(Error::Usage { reason });
    }
    let interrupts = Interrupts::install()?;
    let loaded = run.load(&interrupts)?;
    run.tell_notices(printer);
    let Some(ready) = loaded else {
        printer.finish(&FinishedReply::default());
        return Ok(());
    };
    let mut reply = options.reply();
    // What is continued as it is has no system prompt.
    run.backend().models().defaults_of(&ready.model.id).fill(&mut reply, true);
    let prompt = match (&command.prompt, &command.prompt_ids) {
        (Some(text), _) => run.wait(run.inference().encode(text.clone()))?,
        (None, ids) => known_ids(ids.as_deref().unwrap_or_default(), ready.about.spec.vocabulary_size)?,
    };
    let request = Request {
        prompt,
        continued: 0,
        sampling: reply.sampling(&ready.about.sampling),
        max_new_tokens: reply.max_new_tokens(),
        stop: reply.stop,
        ignore_end_of_turn: false,
    };
    let finished = generate(run, request, &interrupts, printer)?;
    printer.finish(&finished);
    run.end()
}

/// The ids, if the model knows all of them.
fn known_ids(ids: &[TokenId], vocabulary_size: usize) -> Result<Vec<TokenId>> {
    match ids.iter().find(|&&id| id as usize >= vocabulary_size) {
        None => Ok(ids.to_vec()),
        Some(id) => Err(Error::Usage {
            reason: format!("token id {id} is not in the model's vocabulary of {vocabulary_size} tokens"),
        }),
    }
}

fn generate(
    run: &Run,
    request: Request,
    interrupts: &Interrupts,
    printer: &mut Printer,
) -> Result<FinishedReply> {
    let mut running = run.inference().generate(request);
    let canceller = running.canceller();
    let _working = interrupts.working(move || canceller.cancel());
    run.wait(async {
        loop {
            match running.next().await? {
                Update::Progress(Progress::Prefill { done, total, reused }) => {
                    printer.prefill(done, total, reused);
                }
                Update::Progress(Progress::Text { text, .. }) => printer.text(&text),
                Update::Progress(Progress::Thinking { text, .. }) => printer.thinking(&text),
                Update::Finished(finish) => {
                    return Ok(FinishedReply {
                        text: finish.text,
                        token_ids: finish.tokens,
                        reason: Some(finish.reason),
                        usage: finish.usage,
                        seed: Some(finish.seed),
                    });
                }
            }
            if printer.is_closed() {
                running.canceller().cancel();
            }
        }
    })
}
