//! Where requests may go.

use std::net::IpAddr;

use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::hub::HubFailure;
use crate::token::Token;

/// The hub that is asked unless a mirror is named.
const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
/// Tokens belong to the hub and go nowhere else.
const TOKEN_HOST: &str = "huggingface.co";

/// How requests leave: part of the settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkSettings {
    /// The address of a mirror that is asked in the place of the hub.
    pub mirror: Option<String>,
    /// `http://`, `https://` or `socks5://`; `None` takes the system's.
    pub proxy: Option<String>,
    /// No request at all.
    pub offline: bool,
    /// Whether the access token in the environment may be sent to the hub.
    pub environment_token: bool,
    /// The address of a list of models that is fetched when the user asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalog: Option<String>,
}

impl NetworkSettings {
    /// Whether the addresses in them may be asked.
    ///
    /// # Errors
    /// [`Error::Hub`] for one that may not be.
    pub(crate) fn check(&self) -> Result<()> {
        NetworkOptions::of_this_process(self)?;
        self.catalog.as_deref().map(Endpoint::of_catalog).transpose()?;
        Ok(())
    }
}

/// How requests leave, settled.
#[derive(Clone, PartialEq, Eq)]
pub struct NetworkOptions {
    pub(crate) endpoint: Endpoint,
    pub(crate) proxy: Option<String>,
    pub(crate) offline: bool,
    /// That of the environment. It goes before the one that was entered.
    pub(crate) token: Option<Token>,
}

impl std::fmt::Debug for NetworkOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("NetworkOptions")
            .field("endpoint", &self.endpoint)
            // There may be a password in it.
            .field("proxy", &self.proxy.as_ref().map(|_| "…"))
            .field("offline", &self.offline)
            .field("token", &self.token)
            .finish()
    }
}

impl NetworkOptions {
    /// What the environment says, else the settings: `HF_ENDPOINT`, `HF_HUB_OFFLINE` or
    /// `TRANSFORMERS_OFFLINE`, `HF_TOKEN`. `variable` reads the environment.
    ///
    /// # Errors
    /// [`Error::Hub`] for an address that may not be asked.
    pub fn new(settings: &NetworkSettings, variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let set = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
        let endpoint = variable("HF_ENDPOINT").or_else(|| set(&settings.mirror));
        let is_on = |name: &str| {
            variable(name).is_some_and(|value| {
                matches!(value.trim().to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE")
            })
        };
        let token = variable("HF_TOKEN").filter(|_| settings.environment_token);
        Ok(Self {
            endpoint: Endpoint::parse(endpoint.as_deref().unwrap_or(DEFAULT_ENDPOINT))?,
            proxy: set(&settings.proxy).as_deref().map(check_proxy).transpose()?,
            offline: settings.offline || is_on("HF_HUB_OFFLINE") || is_on("TRANSFORMERS_OFFLINE"),
            token: token.as_deref().map(Token::parse).transpose()?,
        })
    }

    /// The same with the environment of this process.
    ///
    /// # Errors
    /// As [`NetworkOptions::new`].
    pub fn of_this_process(settings: &NetworkSettings) -> Result<Self> {
        Self::new(settings, |name| std::env::var(name).ok())
    }

    /// The address that is asked.
    pub fn endpoint(&self) -> &str {
        self.endpoint.0.as_str()
    }

    /// Whether no request may leave.
    pub fn is_offline(&self) -> bool {
        self.offline
    }

    /// Whether the environment brings an access token that may be sent.
    pub fn has_environment_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether an access token may be sent to the address that is asked: to the hub, and to none of its mirrors.
    pub fn takes_token(&self) -> bool {
        self.endpoint.may_have_token(&self.endpoint.0)
    }
}

/// The address of a proxy, where it is one.
fn check_proxy(text: &str) -> Result<String> {
    let is_proxy =
        |url: &Url| matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h") && url.has_host();
    match Url::parse(text.trim()) {
        Ok(url) if is_proxy(&url) => Ok(text.trim().to_owned()),
        _ => Err(Error::Hub {
            // Without its text: there may be a password in it.
            doing: "use the proxy".into(),
            kind: HubFailure::Insecure,
            reason: "its address begins with http://, https:// or socks5:// and names a host".into(),
        }),
    }
}

/// The address of a hub: https, or plain http on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint(Url);

impl Endpoint {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        Self::parse_for("use the hub", text)
    }

    /// The address of a list of models: the same rules hold for it.
    pub(crate) fn of_catalog(text: &str) -> Result<Self> {
        Self::parse_for("use the list of models", text)
    }

    fn parse_for(doing: &str, text: &str) -> Result<Self> {
        let doing = format!("{doing} at `{}`", shown(text));
        let refused = |reason: &str| Error::Hub {
            doing: doing.clone().into(),
            kind: HubFailure::Insecure,
            reason: reason.into(),
        };
        let url = Url::parse(text.trim())
            .map_err(|_| refused("it is no web address; those begin with https://"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused("an address with a name or password in it could be written to a log"));
        }
        match url.scheme() {
            "https" if url.has_host() => Ok(Self(url)),
            "http" if is_loopback(&url) => Ok(Self(url)),
            _ => Err(refused("only https is allowed, except on this machine")),
        }
    }

    /// An address below this one. Each part is encoded, slashes in it too.
    pub(crate) fn below<'p>(&self, parts: impl IntoIterator<Item = &'p str>) -> Url {
        let mut url = self.0.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(parts);
        }
        url.set_query(None);
        url
    }

    /// The address itself.
    pub(crate) fn url(&self) -> &Url {
        &self.0
    }

    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(&self.0)
    }

    /// Whether `url` is of the hub itself: scheme, host and port.
    pub(crate) fn is_origin_of(&self, url: &Url) -> bool {
        url.origin() == self.0.origin()
    }

    /// Whether a token may be sent to `url`: to the hub itself and to nobody it names.
    pub(crate) fn may_have_token(&self, url: &Url) -> bool {
        let is_hub = self.0.host_str() == Some(TOKEN_HOST) || self.is_loopback();
        is_hub && self.is_origin_of(url)
    }

    /// Where a redirect from `current` leads.
    pub(crate) fn follow(&self, current: &Url, location: &str) -> Result<Url, String> {
        let url =
            current.join(location).map_err(|_| format!("the redirect to `{location}` is no address"))?;
        let shown = format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default());
        if !url.username().is_empty() || url.password().is_some() {
            return Err(format!("the redirect to `{shown}` carries a name or password"));
        }
        match url.scheme() {
            "https" => {}
            "http" if self.is_loopback() && is_loopback(&url) && current.scheme() == "http" => {}
            _ => return Err(format!("the redirect to `{shown}` leaves https")),
        }
        // What a server of the world names must not become a request to this machine or this network.
        if is_private(&url) && !self.is_loopback() && url.host() != self.0.host() {
            return Err(format!("the redirect to `{shown}` leads into this network"));
        }
        Ok(url)
    }
}

/// Of an address what holds no secret: scheme, host and port, or the whole of a text without a name and password.
fn shown(text: &str) -> String {
    match Url::parse(text) {
        Ok(url) if url.has_host() => url.origin().ascii_serialization(),
        _ if text.contains('@') => "…".into(),
        _ => text.to_owned(),
    }
}

fn is_loopback(url: &Url) -> bool {
    match address(url) {
        Some(address) => address.is_loopback(),
        None => url.host_str() == Some("localhost"),
    }
}

fn is_private(url: &Url) -> bool {
    match address(url) {
        Some(IpAddr::V4(address)) => {
            address.is_loopback()
                || address.is_private()
                || address.is_link_local()
                || address.is_unspecified()
        }
        Some(IpAddr::V6(address)) => {
            address.is_loopback()
                || address.is_unique_local()
                || address.is_unicast_link_local()
                || address.is_unspecified()
                || address.to_ipv4_mapped().is_some()
        }
        None => url.host_str().is_none_or(|host| host == "localhost" || host.ends_with(".localhost")),
    }
}

fn address(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_matches(['[', ']']).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, NetworkOptions, NetworkSettings, Url};

    fn options(settings: &NetworkSettings, environment: &[(&str, &str)]) -> NetworkOptions {
        let find = |name: &str| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        NetworkOptions::new(settings, find).unwrap()
    }

    #[test]
    fn the_environment_goes_before_the_settings() {
        let settings =
            NetworkSettings { mirror: Some("https://mirror.example/".into()), ..Default::default() };
        assert_eq!(options(&NetworkSettings::default(), &[]).endpoint(), "https://huggingface.co/");
        assert_eq!(options(&settings, &[("HF_ENDPOINT", "")]).endpoint(), "https://mirror.example/");
        assert_eq!(
            options(&settings, &[("HF_ENDPOINT", "https://a.example")]).endpoint(),
            "https://a.example/"
        );
        assert!(!options(&settings, &[("HF_HUB_OFFLINE", "0")]).is_offline());
        for value in ["1", "on", "YES", "True"] {
            assert!(options(&settings, &[("HF_HUB_OFFLINE", value)]).is_offline(), "{value}");
            assert!(options(&settings, &[("TRANSFORMERS_OFFLINE", value)]).is_offline(), "{value}");
        }
        assert!(options(&NetworkSettings { offline: true, ..Default::default() }, &[]).is_offline());
    }

    #[test]
    fn a_token_of_the_environment_is_taken_with_consent_only_and_never_shown() {
        let environment = [("HF_TOKEN", "hf_secret")];
        assert_eq!(options(&NetworkSettings::default(), &environment).token, None);
        let consent = NetworkSettings { environment_token: true, ..Default::default() };
        let options = options(&consent, &environment);
        assert!(options.token.is_some());
        assert!(!format!("{options:?}").contains("secret"), "{options:?}");
    }

    #[test]
    fn plain_http_is_for_this_machine_only() {
        for text in [
            "https://a.example",
            "https://a.example/hub",
            "http://127.0.0.1:8000",
            "http://[::1]:1",
            "http://localhost",
        ] {
            assert!(Endpoint::parse(text).is_ok(), "{text}");
        }
        for text in [
            "http://a.example",
            "http://127.0.0.1.a.example",
            "file:///etc",
            "ftp://a.example",
            "a.example",
            "https://u:p@a.example",
            "",
        ] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn redirects_stay_on_https_and_out_of_this_network() {
        let hub = Endpoint::parse("https://hub.example").unwrap();
        let current = Url::parse("https://hub.example/a/b/resolve/main/c").unwrap();
        for location in ["/api/resolve-cache/c", "https://cdn.example/c", "../x", "//cdn.example/c"] {
            assert!(hub.follow(&current, location).is_ok(), "{location}");
        }
        for location in [
            "http://hub.example/c",
            "file:///etc/passwd",
            "https://127.0.0.1/c",
            "https://localhost/c",
            "https://a.localhost/c",
            "https://10.0.0.1/c",
            "https://192.168.1.1/c",
            "https://169.254.169.254/c",
            "https://[::1]/c",
            "https://[fe80::1]/c",
            "https://[::ffff:127.0.0.1]/c",
            "https://0.0.0.0/c",
            "https://2130706433/c",
            "https://user:pass@cdn.example/c",
            "data:text/plain,c",
            "javascript:0",
        ] {
            assert!(hub.follow(&current, location).is_err(), "{location}");
        }
    }

    #[test]
    fn a_token_goes_to_the_hub_alone() {
        let hub = Endpoint::parse("https://huggingface.co").unwrap();
        let mirror = Endpoint::parse("https://mirror.example").unwrap();
        let may = |hub: &Endpoint, url: &str| hub.may_have_token(&Url::parse(url).unwrap());
        assert!(may(&hub, "https://huggingface.co/a/b"));
        for url in [
            "https://cdn.huggingface.co/a",
            "https://huggingface.co:444/a",
            "http://huggingface.co/a",
            "https://huggingface.co.example/",
        ] {
            assert!(!may(&hub, url), "{url}");
        }
        assert!(!may(&mirror, "https://mirror.example/a"), "a mirror is not whom the token is for");
    }
}
