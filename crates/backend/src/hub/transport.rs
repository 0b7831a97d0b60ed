//! The one place where requests leave: offline switch, token, redirects, network ledger.

use std::sync::OnceLock;
use std::time::Duration;

use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_RANGE, HeaderMap, HeaderValue, LOCATION, RANGE,
};
use reqwest::{Client, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::endpoint::{Endpoint, NetworkOptions};
use super::failure::{self, Asked, HubFailure};
use super::ledger::{NetworkLedger, OpenEntry, Purpose};
use super::timing::Timing;
use crate::error::{Error, Result};
use crate::token::{AccessToken, Token};

const MOST_REDIRECTS: usize = 5;
/// The longest wait between two tries while somebody looks at a list that does not come.
pub(super) const LONGEST_LOOK: Duration = Duration::from_secs(5);

/// Sends requests.
#[derive(Debug)]
pub(crate) struct Transport {
    /// What is wrong with them is what every request ends in.
    options: Result<NetworkOptions>,
    pub(crate) timing: Timing,
    ledger: NetworkLedger,
    access: AccessToken,
    client: OnceLock<Result<Client>>,
}

/// Whom a request is for.
#[derive(Clone, Copy)]
enum Server<'s> {
    Hub,
    /// Another one, of the user's choice. It never gets the token.
    Other(&'s Endpoint),
}

/// The head of an answer, and the body to come.
#[derive(Debug)]
pub(crate) struct Answer {
    doing: String,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// What the hub itself said of the file, before it named another server.
    pub(crate) hub_headers: HeaderMap,
    /// The address that answered.
    pub(crate) url: Url,
    asked: Asked,
    response: Response,
    entry: OpenEntry,
}

impl Transport {
    pub(crate) fn new(
        options: Result<NetworkOptions>,
        timing: Timing,
        ledger: NetworkLedger,
        access: AccessToken,
    ) -> Self {
        Self { options, timing, ledger, access, client: OnceLock::new() }
    }

    /// The address and the rules of requests.
    ///
    /// # Errors
    /// [`Error::Hub`] where they name an address that may not be asked.
    pub(crate) fn options(&self) -> Result<&NetworkOptions> {
        self.options.as_ref().map_err(Clone::clone)
    }

    /// Asks the hub for `url` from byte `start` on and follows where the answer leads. A status that is no success
    /// is an answer too.
    ///
    /// # Errors
    /// [`Error::Hub`] where no answer came or may be used.
    pub(crate) async fn get(&self, doing: &str, url: Url, purpose: Purpose, start: u64) -> Result<Answer> {
        self.ask(Server::Hub, doing, url, purpose, start).await
    }

    async fn ask(
        &self,
        server: Server<'_>,
        doing: &str,
        mut url: Url,
        purpose: Purpose,
        start: u64,
    ) -> Result<Answer> {
        let failed = |kind, reason: String| Error::Hub { doing: doing.into(), kind, reason: reason.into() };
        let options = self.options()?;
        if options.offline {
            let reason = "the network is switched off in the settings or by HF_HUB_OFFLINE".to_owned();
            return Err(failed(HubFailure::Offline, reason));
        }
        let client = self.client(options)?;
        let endpoint = match server {
            Server::Hub => &options.endpoint,
            Server::Other(endpoint) => endpoint,
        };
        let page = matches!(server, Server::Hub).then(|| page_of(&url)).flatten();
        let mut hub_headers = HeaderMap::new();
        for _ in 0..=MOST_REDIRECTS {
            let host = url.host_str().unwrap_or_default().to_owned();
            let token = match server {
                Server::Hub => self.token_for(options, &url).await,
                Server::Other(_) => None,
            };
            let headers = headers(token.as_ref(), start);
            let with_token = headers.contains_key(AUTHORIZATION);
            let request = client.get(url.clone()).headers(headers);
            let entry = self.ledger.begin(&host, purpose);
            let response = match timeout(self.timing.answer, request.send()).await {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => {
                    return Err(failed(kind_of(&error), format!("`{host}`: {}", chain(&error))));
                }
                Err(_) => return Err(failed(HubFailure::Unreachable, format!("`{host}` does not answer"))),
            };
            let (status, headers) = (response.status(), response.headers().clone());
            if let Some(token) = token.filter(|_| failure::is_token_invalid(status, &headers)) {
                self.access.give_up(&token).await;
            }
            let is_hub = endpoint.is_origin_of(&url);
            let location = headers.get(LOCATION).filter(|_| status.is_redirection());
            if is_hub {
                // What the hub says first counts: the servers behind it know the bytes and not the file.
                for (name, value) in &headers {
                    if name.as_str().starts_with("x-") && !hub_headers.contains_key(name) {
                        hub_headers.insert(name.clone(), value.clone());
                    }
                }
            }
            let Some(location) = location else {
                let doing = doing.to_owned();
                let asked = Asked { is_hub, with_token, page };
                return Ok(Answer { doing, status, headers, hub_headers, url, asked, response, entry });
            };
            let location = location.to_str().unwrap_or_default();
            url = endpoint.follow(&url, location).map_err(|reason| failed(HubFailure::Insecure, reason))?;
        }
        Err(failed(HubFailure::Protocol, format!("more than {MOST_REDIRECTS} redirects")))
    }

    /// The token that goes along to `url`, where one may. Nobody else is worth asking the keychain for.
    async fn token_for(&self, options: &NetworkOptions, url: &Url) -> Option<Token> {
        if !options.endpoint.may_have_token(url) {
            return None;
        }
        let token = match &options.token {
            Some(token) => Some(token.clone()),
            None => self.access.token().await,
        };
        token.filter(|token| !self.access.is_refused(token))
    }

    /// Fetches a text of at most `largest` bytes from a server of the user's choice, without the token.
    ///
    /// # Errors
    /// [`Error::Hub`].
    pub(crate) async fn text(
        &self,
        doing: &str,
        address: &Endpoint,
        purpose: Purpose,
        largest: usize,
    ) -> Result<Vec<u8>> {
        let answer = self.ask(Server::Other(address), doing, address.url().clone(), purpose, 0);
        let body = async { body(answer.await?, largest).await };
        match timeout(self.timing.answer * 4, body).await {
            Ok(body) => body.map(|(_, text)| text),
            Err(_) => Err(endless(doing)),
        }
    }

    /// Asks for JSON of at most `largest` bytes, again where that may help.
    ///
    /// # Errors
    /// [`Error::Hub`].
    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        doing: &str,
        url: Url,
        purpose: Purpose,
        largest: usize,
    ) -> Result<(HeaderMap, T)> {
        let mut tried = 0;
        loop {
            tried += 1;
            let result =
                match timeout(self.timing.answer * 4, self.json_once(doing, url.clone(), purpose, largest))
                    .await
                {
                    Ok(result) => result,
                    Err(_) => Err(endless(doing)),
                };
            let Err(Error::Hub { kind, .. }) = &result else { return result };
            match self.pause_after(*kind, tried) {
                // Somebody looks at this one: a few tries and short waits, not as many and long as a download has.
                Some(pause) if tried < self.timing.tries.min(3) && pause <= LONGEST_LOOK => {
                    tokio::time::sleep(pause).await;
                }
                _ => return result,
            }
        }
    }

    async fn json_once<T: DeserializeOwned>(
        &self,
        doing: &str,
        url: Url,
        purpose: Purpose,
        largest: usize,
    ) -> Result<(HeaderMap, T)> {
        let (answer, text) = body(self.get(doing, url, purpose, 0).await?, largest).await?;
        // Read into what is wanted of it at once: any JSON as a tree takes many times its text.
        let value = serde_json::from_slice(&text)
            .map_err(|error| answer.broken(&format!("the answer has another form: {error}")))?;
        Ok((answer.headers, value))
    }

    /// How long to wait before the next try; `None` where none helps.
    pub(crate) fn pause_after(&self, kind: HubFailure, tried: u32) -> Option<Duration> {
        match kind {
            HubFailure::RateLimited { retry_after: Some(wait) } => {
                (wait <= self.timing.longest_wait).then_some(wait)
            }
            kind => kind.is_transient().then(|| self.timing.pause(tried)),
        }
    }

    /// Made at the first request: it reads the system's certificates.
    fn client(&self, options: &NetworkOptions) -> Result<&Client> {
        let client = self.client.get_or_init(|| {
            // Someone else in this process may have chosen already; any choice will do.
            rustls::crypto::ring::default_provider().install_default().ok();
            let failed = |error: reqwest::Error| Error::Hub {
                doing: "set up the network".into(),
                kind: HubFailure::Insecure,
                reason: chain(&error).into(),
            };
            let mut builder = Client::builder()
                .user_agent(concat!("hearth/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(self.timing.connect)
                .referer(false);
            if let Some(proxy) = &options.proxy {
                builder = builder.proxy(reqwest::Proxy::all(proxy).map_err(failed)?);
            } else if options.endpoint.is_loopback() {
                builder = builder.no_proxy();
            }
            builder.build().map_err(failed)
        });
        client.as_ref().map_err(Clone::clone)
    }
}

impl Answer {
    /// More of the body; `None` at its end.
    ///
    /// # Errors
    /// [`Error::Hub`] where the connection breaks.
    pub(crate) async fn chunk(&mut self) -> Result<Option<impl AsRef<[u8]> + Send + 'static>> {
        let chunk = self.response.chunk().await.map_err(|error| Error::Hub {
            doing: self.doing.clone().into(),
            kind: kind_of(&error),
            reason: chain(&error).into(),
        })?;
        if let Some(chunk) = &chunk {
            self.entry.add(chunk.len());
        }
        Ok(chunk)
    }

    /// Says that this answer is none that the protocol knows.
    pub(crate) fn broken(&self, reason: &str) -> Error {
        let host = self.url.host_str().unwrap_or_default();
        Error::Hub {
            doing: self.doing.clone().into(),
            kind: HubFailure::Protocol,
            reason: format!("`{host}`: {reason}").into(),
        }
    }

    /// The failure that this answer is.
    pub(crate) fn failure(&self) -> Error {
        failure::of_answer(&self.doing, self.status, &self.headers, &self.asked)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// What the hub itself said, without quotes and the mark of a weak tag.
    pub(crate) fn hub_header(&self, name: &str) -> Option<&str> {
        let value = self.hub_headers.get(name)?.to_str().ok()?;
        Some(value.trim_start_matches("W/").trim_matches('"'))
    }

    /// Whether the body is not the bytes themselves.
    pub(crate) fn encoding(&self) -> Option<&str> {
        self.header(CONTENT_ENCODING.as_str()).filter(|encoding| !encoding.eq_ignore_ascii_case("identity"))
    }

    /// `Content-Range: bytes START-END/TOTAL`.
    pub(crate) fn content_range(&self) -> Option<(u64, u64)> {
        let (range, total) = self.header(CONTENT_RANGE.as_str())?.strip_prefix("bytes ")?.split_once('/')?;
        let (start, _end) = range.split_once('-')?;
        Some((start.trim().parse().ok()?, total.trim().parse().ok()?))
    }
}

/// The whole body of an answer that is a success, of at most `largest` bytes.
async fn body(mut answer: Answer, largest: usize) -> Result<(Answer, Vec<u8>)> {
    if answer.status != StatusCode::OK {
        return Err(answer.failure());
    }
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if text.len() + chunk.as_ref().len() > largest {
            return Err(answer.broken(&format!("the answer is longer than {largest} bytes")));
        }
        text.extend_from_slice(chunk.as_ref());
    }
    Ok((answer, text))
}

fn endless(doing: &str) -> Error {
    let reason = "the answer does not end".into();
    Error::Hub { doing: doing.into(), kind: HubFailure::Unreachable, reason }
}

/// The page of the repository that an address of the hub is about.
fn page_of(url: &Url) -> Option<String> {
    let parts: Vec<&str> = url.path_segments()?.collect();
    let (owner, name) = match parts.as_slice() {
        ["api", "models", owner, name, ..] => (owner, name),
        ["api", ..] => return None,
        [owner, name, "resolve", ..] => (owner, name),
        _ => return None,
    };
    Some(format!("{}/{owner}/{name}", url.origin().ascii_serialization()))
}

fn headers(token: Option<&Token>, start: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    // A length and a digest belong to the bytes as they are.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if start > 0
        && let Ok(range) = HeaderValue::from_str(&format!("bytes={start}-"))
    {
        headers.insert(RANGE, range);
    }
    if let Some(token) = token
        && let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {}", token.secret()))
    {
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    headers
}

fn kind_of(error: &reqwest::Error) -> HubFailure {
    match error {
        error if is_untrusted(error) => HubFailure::Insecure,
        error if error.is_builder() => HubFailure::Protocol,
        _ => HubFailure::Unreachable,
    }
}

/// Whether a server lies below that is not trusted. Other failures of TLS are those of a connection: a login page
/// in its place, bytes that were damaged. What an I/O error wraps is not among its sources.
fn is_untrusted(error: &(dyn std::error::Error + 'static)) -> bool {
    use rustls::Error::{General, InvalidCertificate, NoCertificatesPresented};
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    matches!(error.downcast_ref(), Some(InvalidCertificate(_) | NoCertificatesPresented | General(_)))
        || wrapped.is_some_and(|wrapped| is_untrusted(wrapped))
        || error.source().is_some_and(is_untrusted)
}

/// The error and its causes. Addresses are left out: a signed one is a key.
fn chain(error: &reqwest::Error) -> String {
    let mut message = match error {
        error if error.is_timeout() => "the connection timed out".to_owned(),
        error if error.is_connect() => "no connection".to_owned(),
        error if error.is_body() || error.is_decode() => "the connection broke".to_owned(),
        _ => "the request failed".to_owned(),
    };
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if !message.ends_with(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        cause = error.source();
    }
    message
}
