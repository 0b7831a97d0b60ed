//! A Secret Service on a session bus of its own: one collection that is open, and place for one item.
//!
//! It never reads what it keeps. Clients agree on a key by Diffie and Hellman; its own part is always 1, so that
//! every session has the same key, and what one has written another one can read.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};

use zbus::blocking::Connection;
use zbus::blocking::connection::Builder;
use zbus::zvariant::{ObjectPath, OwnedObjectPath, OwnedValue, Value};

const COLLECTION: &str = "/org/freedesktop/secrets/collection/login";
const ITEM: &str = "/org/freedesktop/secrets/collection/login/1";
const SESSION: &str = "/org/freedesktop/secrets/session/1";
/// In the place of a question to the user.
const NO_PROMPT: &str = "/";

/// Session, initialisation vector, what is encrypted, and its kind.
type Secret = (OwnedObjectPath, Vec<u8>, Vec<u8>, String);

/// A session bus with the service on it. Both end with the value.
pub(crate) struct SecretService {
    bus: Child,
    address: String,
    kept: Kept,
    _connection: Connection,
}

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Option<KeptItem>>>);

/// Attributes, and the secret that they lead to.
type KeptItem = (HashMap<String, String>, Secret);

impl Kept {
    fn item(&self) -> MutexGuard<'_, Option<KeptItem>> {
        self.0.lock().expect("no call to the service panics")
    }
}

impl SecretService {
    /// `None`, and one line, where this machine has no program for a session bus.
    #[expect(clippy::print_stdout, reason = "a skipped test says so")]
    pub(crate) fn start() -> Option<Self> {
        let arguments = ["--session", "--nofork", "--nosyslog", "--print-address=1"];
        let started =
            Command::new("dbus-daemon").args(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let Ok(mut bus) = started else {
            println!("skipped: there is no `dbus-daemon`");
            return None;
        };
        let mut address = String::new();
        BufReader::new(bus.stdout.take().expect("stdout is a pipe")).read_line(&mut address).expect("a line");
        let address = address.trim().to_owned();
        let kept = Kept::default();
        let connection = Builder::address(address.as_str())
            .and_then(|bus| bus.serve_at("/org/freedesktop/secrets", Service(kept.clone())))
            .and_then(|bus| bus.serve_at(COLLECTION, Collection(kept.clone())))
            .and_then(|bus| bus.serve_at(ITEM, Item(kept.clone())))
            .and_then(|bus| bus.name("org.freedesktop.secrets"))
            .and_then(Builder::build)
            .expect("the service stands on its bus");
        Some(Self { bus, address, kept, _connection: connection })
    }

    /// Where programs find the bus, as `DBUS_SESSION_BUS_ADDRESS`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// By which attributes the item is found; `None` where nothing is kept.
    pub(crate) fn attributes(&self) -> Option<HashMap<String, String>> {
        self.kept.item().as_ref().map(|(attributes, _)| attributes.clone())
    }
}

impl Drop for SecretService {
    fn drop(&mut self) {
        self.bus.kill().ok();
        self.bus.wait().ok();
    }
}

struct Service(Kept);

#[zbus::interface(name = "org.freedesktop.Secret.Service")]
impl Service {
    fn open_session(&self, _algorithm: &str, _input: Value<'_>) -> (Value<'static>, OwnedObjectPath) {
        (Value::from(vec![1_u8]), path(SESSION))
    }

    fn search_items(
        &self,
        attributes: HashMap<String, String>,
    ) -> (Vec<OwnedObjectPath>, Vec<OwnedObjectPath>) {
        let is_meant = |known: &HashMap<String, String>| {
            attributes.iter().all(|(name, value)| known.get(name) == Some(value))
        };
        let found = self.0.item().as_ref().is_some_and(|(known, _)| is_meant(known));
        (if found { vec![path(ITEM)] } else { Vec::new() }, Vec::new())
    }

    fn read_alias(&self, _name: &str) -> OwnedObjectPath {
        path(COLLECTION)
    }

    #[zbus(property)]
    fn collections(&self) -> Vec<OwnedObjectPath> {
        vec![path(COLLECTION)]
    }
}

struct Collection(Kept);

#[zbus::interface(name = "org.freedesktop.Secret.Collection")]
impl Collection {
    fn create_item(
        &self,
        mut properties: HashMap<String, OwnedValue>,
        secret: Secret,
        _replace: bool,
    ) -> (OwnedObjectPath, OwnedObjectPath) {
        let attributes = properties.remove("org.freedesktop.Secret.Item.Attributes");
        let attributes = attributes.expect("an item has attributes").try_into().expect("texts");
        *self.0.item() = Some((attributes, secret));
        (path(ITEM), path(NO_PROMPT))
    }

    #[zbus(property)]
    fn locked(&self) -> bool {
        false
    }
}

struct Item(Kept);

#[zbus::interface(name = "org.freedesktop.Secret.Item")]
impl Item {
    fn get_secret(&self, _session: ObjectPath<'_>) -> zbus::fdo::Result<(Secret,)> {
        let kept = self.0.item().as_ref().map(|(_, secret)| (secret.clone(),));
        kept.ok_or_else(|| zbus::fdo::Error::UnknownObject("nothing is kept".into()))
    }

    fn set_secret(&self, secret: Secret) {
        if let Some((_, kept)) = self.0.item().as_mut() {
            *kept = secret;
        }
    }

    fn delete(&self) -> OwnedObjectPath {
        *self.0.item() = None;
        path(NO_PROMPT)
    }

    #[zbus(property)]
    fn locked(&self) -> bool {
        false
    }
}

fn path(text: &'static str) -> OwnedObjectPath {
    ObjectPath::from_static_str_unchecked(text).into()
}
