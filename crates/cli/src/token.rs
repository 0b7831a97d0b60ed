//! `hearth models token`: the hub's access token, which is read from no argument and printed nowhere.

use std::io::{IsTerminal, Read};

use backend::{AccessTokenState, TokenKeeping};
use serde_json::json;

use crate::arguments::TokenCommand;
use crate::error::{Error, Result};
use crate::print::Printer;
use crate::run::Run;

/// Bytes; more than any token has.
const LONGEST_INPUT: u64 = 4096;

pub(crate) fn obey(run: &Run, command: TokenCommand, printer: &mut Printer) -> Result<()> {
    let token = run.backend().access_token();
    match command {
        TokenCommand::Set => run.wait(token.set(&read()?, TokenKeeping::Keychain))?,
        TokenCommand::Remove => run.wait(token.remove())?,
        TokenCommand::Show => {}
    }
    match run.wait(token.state()) {
        AccessTokenState::Unreadable(error) => return Err(error.into()),
        state => tell(&state, printer),
    }
    Ok(())
}

/// The token that is typed unseen, or the whole of what is piped in.
fn read() -> Result<String> {
    let failed = |error: std::io::Error| Error::Token { reason: error.to_string() };
    if std::io::stdin().is_terminal() {
        return rpassword::prompt_password("Access token: ").map_err(failed);
    }
    let mut text = String::new();
    std::io::stdin().lock().take(LONGEST_INPUT).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

fn tell(state: &AccessTokenState, printer: &mut Printer) {
    let last_four = match state {
        AccessTokenState::Set { last_four, .. } => Some(last_four.as_str()),
        _ => None,
    };
    if printer.is_json() {
        return printer.json_line(&json!({
            "type": "token", "set": last_four.is_some(), "last_four": last_four,
        }));
    }
    match last_four {
        Some("") => printer.line("An access token is set."),
        Some(last_four) => printer.line(&format!("An access token is set; it ends in {last_four}.")),
        None if *state == AccessTokenState::Forgotten => {
            printer.line("No access token is set: the one in the window was for one run only.");
        }
        None => printer.line("No access token is set."),
    }
}
