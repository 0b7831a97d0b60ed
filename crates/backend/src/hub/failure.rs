//! What a hub can refuse, in the words of its status, codes and headers.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde::Serialize;

use crate::error::Error;

/// Why nothing came from a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum HubFailure {
    /// The network is switched off in the settings or the environment. No request left.
    Offline,
    /// No connection, or one that broke or fell silent.
    Unreachable,
    /// The server's certificate is not trusted, or the address is none that may be asked.
    Insecure,
    /// The repository wants a login or that its conditions are accepted.
    Gated,
    /// The hub does not accept the access token that was sent along.
    TokenRefused,
    /// No such repository, commit or file; or a private repository.
    Missing,
    /// Too many requests.
    RateLimited { retry_after: Option<Duration> },
    /// The server failed.
    Server,
    /// The answer is none that the hub's protocol knows, or contradicts what is known of the file.
    Protocol,
}

impl HubFailure {
    /// Whether the same request may succeed a little later.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Unreachable | Self::RateLimited { .. } | Self::Server)
    }
}

/// What the hub says of an access token that is none.
const INVALID_TOKEN: &str = "invalid credentials";

/// Who answered, and what was sent along.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// The hub itself and none of the servers that it names.
    pub(crate) is_hub: bool,
    pub(crate) with_token: bool,
    /// The page of the repository that was asked about, for its user to look at.
    pub(crate) page: Option<String>,
}

/// Whether the hub says of the access token that went along that it knows none such.
pub(crate) fn is_token_invalid(status: StatusCode, headers: &HeaderMap) -> bool {
    let said = headers.get("x-error-message").and_then(|said| said.to_str().ok()).unwrap_or_default();
    status == StatusCode::UNAUTHORIZED && said.to_ascii_lowercase().contains(INVALID_TOKEN)
}

/// The failure that an answer with this status is.
pub(crate) fn of_answer(doing: &str, status: StatusCode, headers: &HeaderMap, asked: &Asked) -> Error {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let code = header("x-error-code");
    let said: String =
        header("x-error-message").chars().filter(|letter| !letter.is_control()).take(300).collect();
    let kind = match status.as_u16() {
        401 if code == "GatedRepo" => HubFailure::Gated,
        // What the hub says of a repository comes with a code; without one a token is what it does not like.
        401 if asked.with_token && code.is_empty() => HubFailure::TokenRefused,
        // Behind the hub it is an address that is no longer good: the next try gets another one.
        401 | 403 if !asked.is_hub && code.is_empty() => HubFailure::Server,
        403 => HubFailure::Gated,
        // A repository that does not exist answers like one that is private.
        401 | 404 | 410 => HubFailure::Missing,
        429 => HubFailure::RateLimited { retry_after: retry_after(headers) },
        408 => HubFailure::Unreachable,
        503 if retry_after(headers).is_some() => {
            HubFailure::RateLimited { retry_after: retry_after(headers) }
        }
        500.. => HubFailure::Server,
        _ => HubFailure::Protocol,
    };
    let mut reason = match kind {
        HubFailure::TokenRefused => "the access token is refused".to_owned(),
        HubFailure::Gated if code.is_empty() => "access is refused".to_owned(),
        HubFailure::Gated => {
            let who = if asked.with_token { "the account of the access token has no access; " } else { "" };
            let page = asked.page.as_ref().map_or(String::new(), |page| format!(" on {page}"));
            format!("{who}its owner asks for a login and that conditions are accepted{page}")
        }
        HubFailure::Missing if code.is_empty() => "it does not exist there, or is private".to_owned(),
        HubFailure::Missing => format!("it does not exist there ({code})"),
        HubFailure::RateLimited { .. } => "the server was asked too often".to_owned(),
        _ => format!("the server answered {status}"),
    };
    if !said.is_empty() {
        reason = format!("{reason}: {said}");
    }
    Error::Hub { doing: doing.into(), kind, reason: reason.into() }
}

/// How long to wait: the hub's own header where it says that nothing is left, else the standard one.
///
/// `RateLimit: "resolvers";r=0;t=55` stands on every answer; `t` counts only where `r` is 0.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let limit = text("ratelimit").and_then(|limit| {
        let part = |name: &str| {
            limit
                .split(';')
                .find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('=')?.parse::<u64>().ok())
        };
        (part("r")? == 0).then(|| part("t")).flatten()
    });
    let seconds = limit.or_else(|| text(RETRY_AFTER.as_str())?.trim().parse().ok())?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

    use super::{Duration, retry_after};

    fn wait(headers: &[(&'static str, &'static str)]) -> Option<u64> {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        retry_after(&headers).map(|wait: Duration| wait.as_secs())
    }

    #[test]
    fn the_wait_is_the_hubs_own_where_nothing_is_left_else_the_standard_one() {
        assert_eq!(wait(&[]), None);
        assert_eq!(wait(&[("ratelimit", r#""resolvers";r=0;t=55"#)]), Some(55));
        assert_eq!(wait(&[("ratelimit", r#""resolvers";r=7;t=55"#)]), None);
        assert_eq!(wait(&[("ratelimit", r#""api";r=7;t=55"#), ("retry-after", "3")]), Some(3));
        assert_eq!(wait(&[("ratelimit", "r=0;t=x"), ("retry-after", "99999999")]), Some(99_999_999));
        assert_eq!(wait(&[("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT")]), None);
    }
}
