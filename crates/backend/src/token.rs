//! The hub's access token: the user enters it, the system's keychain keeps it, and it is sent to the hub alone.
//!
//! Nothing of it is in a file: the settings say only where it was put. The keychain is asked when a request is about
//! to leave for the hub and the settings say that a token lies there, never at start.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, oneshot};
use tokio::time::timeout;

use crate::Change;
use crate::error::{Error, Result};
use crate::notices::{Notices, Severity};
use crate::settings::Settings;

/// A locked keychain asks its user for a password before it answers.
const PATIENCE: Duration = Duration::from_secs(60);
/// Characters; those of the hub have about 40.
const LONGEST: usize = 512;
/// Of a shorter token even four characters would tell too much.
const SHORTEST_SHOWN: usize = 12;
/// What notices about the token are about.
const NOTICE: &str = "accessToken";

/// Where one access token is kept. A call may wait for the user of the system. What goes wrong is said in a few
/// words that do not hold the token.
pub trait TokenStore: Send + Sync {
    /// The token that is kept, if one is.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn read(&self) -> Result<Option<String>, String>;

    /// Keeps `token` in the place of an earlier one.
    ///
    /// # Errors
    /// Why it cannot be kept.
    fn write(&self, token: &str) -> Result<(), String>;

    /// Keeps none from now on.
    ///
    /// # Errors
    /// Why the one that is kept cannot be removed.
    fn remove(&self) -> Result<(), String>;
}

/// An access token. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(String);

impl Token {
    /// What a user typed or pasted, or the environment says, without the white space around it.
    ///
    /// # Errors
    /// [`Error::TokenForm`] for what no token can be.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let refused = |reason: &'static str| Err(Error::TokenForm { reason });
        match text {
            "" => refused("there is nothing in it"),
            _ if text.len() > LONGEST => refused("it is far too long"),
            _ if !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                refused("it has spaces or characters that no token has")
            }
            _ => Ok(Self(text.to_owned())),
        }
    }

    pub(crate) fn secret(&self) -> &str {
        &self.0
    }

    fn last_four(&self) -> String {
        // Only ASCII passes `parse`.
        if self.0.len() < SHORTEST_SHOWN { String::new() } else { self.0[self.0.len() - 4..].to_owned() }
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Token(…)")
    }
}

/// How long a token is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TokenKeeping {
    /// Until it is removed, by the system's keychain.
    Keychain,
    /// Until the program ends, in its memory.
    ThisRun,
}

/// What may be known of the access token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessTokenState {
    Unset,
    /// `last_four` characters of it; empty for a very short one.
    Set {
        last_four: String,
        keeping: TokenKeeping,
    },
    /// It was kept for one run of the program, and that run is over.
    Forgotten,
    /// The hub does not accept it, so it was given up.
    Refused {
        last_four: String,
    },
    /// It lies in the keychain, and the keychain does not give it out.
    Unreadable(Error),
}

/// The access token of one user. Cheap to clone.
#[derive(Clone)]
pub struct AccessToken(Arc<Inner>);

struct Inner {
    store: Arc<dyn TokenStore>,
    /// Where it is remembered in which place the token is; `None` remembers nothing.
    settings: Option<PathBuf>,
    notices: Arc<Notices>,
    changes: broadcast::Sender<Change>,
    known: Mutex<Known>,
    /// The keychain is asked by one at a time: each question may show a dialogue.
    asking: tokio::sync::Mutex<()>,
}

struct Known {
    held: Held,
    /// Why the keychain does not give the token out. Requests do not ask it again.
    trouble: Option<Error>,
    /// One that the hub did not accept, of the environment too. It is not sent again.
    refused: Option<Token>,
}

enum Held {
    Nothing,
    /// It lies in the keychain, which was not asked yet.
    InKeychain,
    Here(Token, TokenKeeping),
    Forgotten,
    Refused {
        last_four: String,
    },
}

impl std::fmt::Debug for AccessToken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("AccessToken(…)")
    }
}

impl AccessToken {
    /// The token that the settings at `settings` tell of as `keeping`. Nothing is asked yet.
    pub(crate) fn new(
        store: Arc<dyn TokenStore>,
        settings: PathBuf,
        keeping: Option<TokenKeeping>,
        notices: Arc<Notices>,
        changes: broadcast::Sender<Change>,
    ) -> Self {
        let held = match keeping {
            None => Held::Nothing,
            Some(TokenKeeping::Keychain) => Held::InKeychain,
            Some(TokenKeeping::ThisRun) => Held::Forgotten,
        };
        Self::holding(held, store, Some(settings), notices, changes)
    }

    /// Where no token was entered and none is kept.
    pub(crate) fn absent() -> Self {
        let (changes, _) = broadcast::channel(1);
        Self::holding(Held::Nothing, Arc::new(NoStore), None, Arc::default(), changes)
    }

    fn holding(
        held: Held,
        store: Arc<dyn TokenStore>,
        settings: Option<PathBuf>,
        notices: Arc<Notices>,
        changes: broadcast::Sender<Change>,
    ) -> Self {
        let known = Mutex::new(Known { held, trouble: None, refused: None });
        Self(Arc::new(Inner {
            store,
            settings,
            notices,
            changes,
            known,
            asking: tokio::sync::Mutex::default(),
        }))
    }

    /// What is known of it. Asks the keychain where it is there and was not read yet, or could not be.
    pub async fn state(&self) -> AccessTokenState {
        self.known().trouble = None;
        self.token().await;
        let known = self.known();
        match (&known.held, &known.trouble) {
            (Held::InKeychain, Some(trouble)) => AccessTokenState::Unreadable(trouble.clone()),
            (Held::Nothing | Held::InKeychain, _) => AccessTokenState::Unset,
            (Held::Here(token, keeping), _) => {
                AccessTokenState::Set { last_four: token.last_four(), keeping: *keeping }
            }
            (Held::Forgotten, _) => AccessTokenState::Forgotten,
            (Held::Refused { last_four }, _) => AccessTokenState::Refused { last_four: last_four.clone() },
        }
    }

    /// Takes what the user entered, in the place of an earlier token.
    ///
    /// # Errors
    /// [`Error::TokenForm`]; [`Error::Keychain`], where keeping it for this run is still possible;
    /// [`Error::DataFolder`] where it cannot be noted in which place the token is.
    pub async fn set(&self, text: &str, keeping: TokenKeeping) -> Result<()> {
        let token = Token::parse(text)?;
        let was_in_keychain = self.is_in_keychain();
        match keeping {
            TokenKeeping::Keychain => {
                let secret = token.clone();
                self.ask("save", move |store| store.write(secret.secret())).await?;
            }
            TokenKeeping::ThisRun if was_in_keychain => {
                // Nobody would know of the earlier one any more.
                if let Err(error) = self.ask("remove", |store| store.remove()).await {
                    tracing::warn!(%error, "an earlier access token stays in the keychain");
                }
            }
            TokenKeeping::ThisRun => {}
        }
        self.remember(Some(keeping))?;
        *self.known() = Known { held: Held::Here(token, keeping), trouble: None, refused: None };
        self.quieten();
        Ok(())
    }

    /// Forgets it, in the keychain too. Where none is kept nothing is done.
    ///
    /// # Errors
    /// [`Error::Keychain`], [`Error::DataFolder`]; it stays then.
    pub async fn remove(&self) -> Result<()> {
        if self.is_in_keychain() {
            self.ask("remove", |store| store.remove()).await?;
        }
        self.remember(None)?;
        let mut known = self.known();
        known.held = Held::Nothing;
        known.trouble = None;
        drop(known);
        self.quieten();
        Ok(())
    }

    /// The token that goes with requests to the hub. Where the keychain has one and does not give it out, requests
    /// leave without, and a notice says so.
    pub(crate) async fn token(&self) -> Option<Token> {
        if let Some(answer) = self.token_here() {
            return answer;
        }
        let _one_at_a_time = self.0.asking.lock().await;
        // Whoever asked before may have had the answer.
        if let Some(answer) = self.token_here() {
            return answer;
        }
        let read = self.ask("read", |store| store.read()).await;
        let read = read.and_then(|text| text.as_deref().map(Token::parse).transpose());
        let mut known = self.known();
        match read {
            Ok(Some(token)) => {
                known.held = Held::Here(token.clone(), TokenKeeping::Keychain);
                drop(known);
                self.quieten();
                Some(token)
            }
            Ok(None) => {
                known.held = Held::Nothing;
                None
            }
            Err(error) => {
                known.trouble = Some(error.clone());
                drop(known);
                self.say(format!("{}. Requests leave without it.", capitalised(&error.to_string())));
                None
            }
        }
    }

    /// What is known of it without the keychain; `None` where that is to be asked.
    fn token_here(&self) -> Option<Option<Token>> {
        let known = self.known();
        match &known.held {
            Held::Here(token, _) => Some(Some(token.clone())),
            Held::InKeychain if known.trouble.is_none() => None,
            _ => Some(None),
        }
    }

    /// Whether the hub said of this one that it is none.
    pub(crate) fn is_refused(&self, token: &Token) -> bool {
        self.known().refused.as_ref() == Some(token)
    }

    /// Notes that the hub does not accept `token`: it is not sent again, and the keychain no longer keeps it.
    pub(crate) async fn give_up(&self, token: &Token) {
        let last_four = token.last_four();
        let own = {
            let mut known = self.known();
            known.refused = Some(token.clone());
            let own = match &known.held {
                Held::Here(held, keeping) if held == token => Some(*keeping),
                _ => None,
            };
            if own.is_some() {
                known.held = Held::Refused { last_four: last_four.clone() };
            }
            own
        };
        let mut kept = "";
        if own == Some(TokenKeeping::Keychain) {
            kept = match self.ask("remove", |store| store.remove()).await {
                Ok(()) => " It was taken out of the keychain.",
                Err(_) => " It is still in the keychain.",
            };
        }
        if own.is_some()
            && let Err(error) = self.remember(None)
        {
            tracing::warn!(%error, "the settings still tell of an access token");
        }
        self.say(format!(
            "The hub does not accept the access token{}, and it is not sent again.{kept} Enter another one under \
             Network.",
            if last_four.is_empty() { String::new() } else { format!(" that ends in “{last_four}”") },
        ));
    }

    fn is_in_keychain(&self) -> bool {
        matches!(self.known().held, Held::InKeychain | Held::Here(_, TokenKeeping::Keychain))
    }

    /// Asks the keychain on a thread of its own: it may show a dialogue and wait for its user, and neither a window
    /// nor the end of the program waits for that.
    async fn ask<T: Send + 'static>(
        &self,
        doing: &'static str,
        question: impl FnOnce(&dyn TokenStore) -> Result<T, String> + Send + 'static,
    ) -> Result<T> {
        let failed = |reason: &str| Error::Keychain { doing, reason: reason.into() };
        let (tell, told) = oneshot::channel();
        let store = Arc::clone(&self.0.store);
        std::thread::Builder::new()
            .name("keychain".into())
            // Whoever asked may have stopped waiting.
            .spawn(move || tell.send(question(store.as_ref())).ok())
            .map_err(|error| failed(&error.to_string()))?;
        match timeout(PATIENCE, told).await {
            Ok(Ok(answer)) => answer.map_err(|reason| failed(&reason)),
            Ok(Err(_)) => Err(failed("what asks it has crashed")),
            Err(_) => Err(failed("it does not answer; it may be waiting to be unlocked")),
        }
    }

    fn remember(&self, keeping: Option<TokenKeeping>) -> Result<()> {
        match &self.0.settings {
            Some(settings) => Settings::update(settings, |settings| settings.access_token = keeping),
            None => Ok(()),
        }
    }

    fn say(&self, message: String) {
        self.0.notices.clear(NOTICE);
        self.0.notices.add(Severity::Warning, NOTICE, message);
        // Without listeners there is nobody to tell.
        self.0.changes.send(Change::Notices).ok();
    }

    fn quieten(&self) {
        self.0.notices.clear(NOTICE);
        self.0.changes.send(Change::Notices).ok();
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sentence that an error becomes.
fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// The store of a program that keeps no token.
struct NoStore;

impl TokenStore for NoStore {
    fn read(&self) -> Result<Option<String>, String> {
        Ok(None)
    }

    fn write(&self, _token: &str) -> Result<(), String> {
        Err("this program keeps no token".into())
    }

    fn remove(&self) -> Result<(), String> {
        Ok(())
    }
}
