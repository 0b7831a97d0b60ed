//! The system's keychain: the Secret Service, the macOS keychain, or the Windows credential store.

use std::error::Error as _;
use std::sync::Arc;

use keyring_core::api::CredentialStoreApi;
use keyring_core::{Entry, Error};

use crate::token::TokenStore;

/// What the keychain shows its user.
const SERVICE: &str = "Hearth";
const USER: &str = "hub access token";

/// The access token in the system's keychain. It is asked anew each time: it may be started, locked and unlocked
/// while this program runs.
pub(crate) struct Keychain;

impl TokenStore for Keychain {
    fn read(&self) -> Result<Option<String>, String> {
        match entry()?.get_password() {
            Ok(token) => Ok(Some(token)),
            Err(Error::NoEntry) => Ok(None),
            Err(error) => Err(reason(&error)),
        }
    }

    fn write(&self, token: &str) -> Result<(), String> {
        entry()?.set_password(token).map_err(|error| reason(&error))
    }

    fn remove(&self) -> Result<(), String> {
        match entry()?.delete_credential() {
            Ok(()) | Err(Error::NoEntry) => Ok(()),
            Err(error) => Err(reason(&error)),
        }
    }
}

fn entry() -> Result<Entry, String> {
    let store = system_store().map_err(|error| reason(&error))?;
    store.build(SERVICE, USER, None).map_err(|error| reason(&error))
}

#[cfg(target_os = "linux")]
fn system_store() -> keyring_core::Result<Arc<impl CredentialStoreApi>> {
    zbus_secret_service_keyring_store::Store::new()
}

#[cfg(target_os = "macos")]
fn system_store() -> keyring_core::Result<Arc<impl CredentialStoreApi>> {
    apple_native_keyring_store::keychain::Store::new()
}

#[cfg(windows)]
fn system_store() -> keyring_core::Result<Arc<impl CredentialStoreApi>> {
    windows_native_keyring_store::Store::new()
}

/// The error and its causes, as far as they say something new. None of them has the token in it.
fn reason(error: &Error) -> String {
    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !reason.contains(&text) {
            reason = format!("{reason}: {text}");
        }
        cause = error.source();
    }
    reason
}
