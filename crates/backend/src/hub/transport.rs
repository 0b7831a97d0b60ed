//! The one place where requests leave: offline switch, token, redirects, network ledger.

use std::sync::OnceLock;
use std::time::Duration;

use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE,
    LOCATION, RANGE,
};
use reqwest::{Client, Response, StatusCode, Url};
use tokio::time::timeout;

use super::endpoint::NetworkOptions;
use super::failure::{self, HubFailure};
use super::ledger::{NetworkLedger, OpenEntry, Purpose};
use super::timing::Timing;
use crate::error::{Error, Result};

const MOST_REDIRECTS: usize = 5;
/// The largest answer that is read as JSON. A page of a listing has 1,000 files at most.
const LARGEST_JSON: usize = 8 << 20;

/// Sends requests.
#[derive(Debug)]
pub(crate) struct Transport {
    pub(crate) options: NetworkOptions,
    pub(crate) timing: Timing,
    ledger: NetworkLedger,
    client: OnceLock<Result<Client>>,
}

/// Where a file's bytes are to begin.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resume {
    pub(crate) start: u64,
    /// The strong tag of the bytes before `start`.
    pub(crate) etag: Option<String>,
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
    response: Response,
    entry: OpenEntry,
}

impl Transport {
    pub(crate) fn new(options: NetworkOptions, timing: Timing, ledger: NetworkLedger) -> Self {
        Self { options, timing, ledger, client: OnceLock::new() }
    }

    /// Asks for `url` and follows where the answer leads. A status that is no success is an answer too.
    ///
    /// # Errors
    /// [`Error::Hub`] where no answer came or may be used.
    pub(crate) async fn get(
        &self,
        doing: &str,
        mut url: Url,
        purpose: Purpose,
        resume: &Resume,
    ) -> Result<Answer> {
        let failed = |kind, reason: String| Error::Hub { doing: doing.into(), kind, reason: reason.into() };
        if self.options.offline {
            let reason = "the network is switched off in the settings or by HF_HUB_OFFLINE".to_owned();
            return Err(failed(HubFailure::Offline, reason));
        }
        let client = self.client()?;
        let mut hub_headers = HeaderMap::new();
        for _ in 0..=MOST_REDIRECTS {
            let host = url.host_str().unwrap_or_default().to_owned();
            let request = client.get(url.clone()).headers(self.headers(&url, resume));
            let entry = self.ledger.begin(&host, purpose);
            let response = match timeout(self.timing.answer, request.send()).await {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => {
                    return Err(failed(kind_of(&error), format!("`{host}`: {}", chain(&error))));
                }
                Err(_) => return Err(failed(HubFailure::Unreachable, format!("`{host}` does not answer"))),
            };
            let (status, headers) = (response.status(), response.headers().clone());
            let is_hub = self.options.endpoint.is_origin_of(&url);
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
                return Ok(Answer { doing, status, headers, hub_headers, url, response, entry });
            };
            let location = location.to_str().unwrap_or_default();
            url = self
                .options
                .endpoint
                .follow(&url, location)
                .map_err(|reason| failed(HubFailure::Insecure, reason))?;
        }
        Err(failed(HubFailure::Protocol, format!("more than {MOST_REDIRECTS} redirects")))
    }

    /// Asks for JSON, again where that may help.
    ///
    /// # Errors
    /// [`Error::Hub`].
    pub(crate) async fn json(
        &self,
        doing: &str,
        url: Url,
        purpose: Purpose,
    ) -> Result<(HeaderMap, serde_json::Value)> {
        let mut tried = 0;
        loop {
            tried += 1;
            let result =
                match timeout(self.timing.answer * 4, self.json_once(doing, url.clone(), purpose)).await {
                    Ok(result) => result,
                    Err(_) => Err(Error::Hub {
                        doing: doing.into(),
                        kind: HubFailure::Unreachable,
                        reason: "the answer does not end".into(),
                    }),
                };
            let Err(Error::Hub { kind, .. }) = &result else { return result };
            match self.pause_after(*kind, tried) {
                // Somebody waits for this one: a few tries, not as many as a download has.
                Some(pause) if tried < self.timing.tries.min(3) => tokio::time::sleep(pause).await,
                _ => return result,
            }
        }
    }

    async fn json_once(
        &self,
        doing: &str,
        url: Url,
        purpose: Purpose,
    ) -> Result<(HeaderMap, serde_json::Value)> {
        let mut answer = self.get(doing, url, purpose, &Resume::default()).await?;
        if answer.status != StatusCode::OK {
            return Err(failure::of_answer(doing, answer.status, &answer.headers));
        }
        let mut text = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if text.len() + chunk.as_ref().len() > LARGEST_JSON {
                return Err(answer.broken("the answer is longer than any listing"));
            }
            text.extend_from_slice(chunk.as_ref());
        }
        let value = serde_json::from_slice(&text)
            .map_err(|error| answer.broken(&format!("no JSON came: {error}")))?;
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

    fn headers(&self, url: &Url, resume: &Resume) -> HeaderMap {
        let mut headers = HeaderMap::new();
        // A length and a digest belong to the bytes as they are.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if resume.start > 0 {
            if let Ok(range) = HeaderValue::from_str(&format!("bytes={}-", resume.start)) {
                headers.insert(RANGE, range);
            }
            if let Some(etag) = resume.etag.as_ref().and_then(|etag| HeaderValue::from_str(etag).ok()) {
                headers.insert(IF_RANGE, etag);
            }
        }
        let token = self.options.token.as_ref().filter(|_| self.options.endpoint.may_have_token(url));
        if let Some(token) = token
            && let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {}", token.0))
        {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        headers
    }

    /// Made at the first request: it reads the system's certificates.
    fn client(&self) -> Result<&Client> {
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
            if let Some(proxy) = &self.options.proxy {
                builder = builder.proxy(reqwest::Proxy::all(proxy).map_err(failed)?);
            } else if self.options.endpoint.is_loopback() {
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
        failure::of_answer(&self.doing, self.status, &self.headers)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// What the hub itself said, without quotes and the mark of a weak tag.
    pub(crate) fn hub_header(&self, name: &str) -> Option<&str> {
        let value = self.hub_headers.get(name)?.to_str().ok()?;
        Some(value.trim_start_matches("W/").trim_matches('"'))
    }

    /// The tag by which the rest of this body can be asked for; a weak one does not promise equal bytes.
    pub(crate) fn strong_etag(&self) -> Option<&str> {
        self.header(ETAG.as_str()).filter(|etag| etag.starts_with('"') && etag.len() <= 256)
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

fn kind_of(error: &reqwest::Error) -> HubFailure {
    match error {
        error if is_tls(error) => HubFailure::Insecure,
        error if error.is_builder() => HubFailure::Protocol,
        _ => HubFailure::Unreachable,
    }
}

/// Whether a failure of TLS lies below. What an I/O error wraps is not among its sources.
fn is_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    error.is::<rustls::Error>()
        || wrapped.is_some_and(|wrapped| is_tls(wrapped))
        || error.source().is_some_and(is_tls)
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
