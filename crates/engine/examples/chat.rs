//! The smallest caller of the engine: one question, one reply.
//!
//! `HEARTH_ONNXRUNTIME=/…/libonnxruntime.so ORT_DISABLE_TELEMETRY=1 cargo run -p engine --example chat -- FOLDER QUESTION`

use std::error::Error;
use std::io::Write;

use engine::{Cancel, Clock, Engine, LoadOptions, Message, Progress, RenderOptions, Request, Sampling};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(folder), Some(question)) = (arguments.next(), arguments.next()) else {
        return Err("usage: chat FOLDER QUESTION".into());
    };
    let library = std::env::var_os("HEARTH_ONNXRUNTIME").ok_or("HEARTH_ONNXRUNTIME names no library")?;
    let (mut engine, _) = Engine::open(folder.as_ref(), &LoadOptions::with_library(library.into()))?;
    let prompt = engine.prompt(&[Message::user(question)], &RenderOptions::reply_at(Clock::now()))?;
    let request = Request {
        prompt,
        continued: 0,
        sampling: Sampling::default(),
        max_new_tokens: 256,
        stop: Vec::new(),
        ignore_end_of_turn: false,
    };
    let mut stdout = std::io::stdout();
    let finish = engine.generate(&request, &Cancel::new(), &mut |progress| {
        if let Progress::Text { text, .. } = progress {
            // A closed pipe ends the reader's interest, not the reply.
            drop(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()));
        }
    })?;
    writeln!(stdout, "\n{:?}", finish.usage)?;
    Ok(())
}
