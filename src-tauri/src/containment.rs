//! Keeps the window where it is, and says which links may leave it.

use tauri::Url;

/// Only the application's own pages: `tauri://localhost`, or `http://tauri.localhost` where the web view
/// knows no other schemes.
pub(crate) fn may_navigate(url: &Url) -> bool {
    match (url.scheme(), url.host_str()) {
        ("tauri", Some("localhost")) => true,
        ("http" | "https", Some("tauri.localhost")) => true,
        // The development server, in builds that have no interface inside.
        ("http", Some("localhost")) => cfg!(not(feature = "embedded-interface")),
        _ => false,
    }
}

/// A link that may be opened outside, parsed once: what is checked is what is opened.
///
/// Only `https`, `http` and `mailto`. Anything else could start a program. No user or password, which
/// serve to make a foreign host look like a known one, and no control characters.
pub(crate) fn outside_link(text: &str) -> Option<Url> {
    if text.len() > 8192 || text.chars().any(char::is_control) || text != text.trim() {
        return None;
    }
    let url = Url::parse(text).ok()?;
    let plain = url.username().is_empty() && url.password().is_none();
    match url.scheme() {
        "https" | "http" if plain && url.host_str().is_some_and(|host| !host.is_empty()) => Some(url),
        "mailto" if url.path().contains('@') => Some(url),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_web_and_mail_links_leave_the_window() {
        let leave = [
            "https://example.com",
            "http://example.com/path?query#part",
            "HTTPS://EXAMPLE.COM/",
            "https://xn--bcher-kva.example/",
            "https://192.0.2.1:8080/",
            "mailto:someone@example.com",
        ];
        for text in leave {
            assert!(outside_link(text).is_some(), "{text}");
        }
        let stay = [
            "",
            "example.com",
            "javascript:alert(1)",
            "java\nscript:alert(1)",
            " https://example.com",
            "https://example.com\n",
            "https://user@example.com",
            "https://user:secret@example.com",
            "https://bank.example@evil.example",
            "file:///etc/passwd",
            "smb://host/share",
            "ms-msdt:/id",
            "\\\\host\\share",
            "data:text/html,hello",
            "vbscript:x",
            "tauri://localhost/",
            "ftp://example.com",
            "mailto:",
            "https://",
            "https:///",
            "x-apple.systempreferences:",
        ];
        for text in stay {
            assert!(outside_link(text).is_none(), "{text}");
        }
    }

    #[test]
    fn the_window_navigates_to_its_own_pages_only() {
        let own = ["tauri://localhost/", "tauri://localhost/index.html", "http://tauri.localhost/"];
        for text in own {
            assert!(may_navigate(&Url::parse(text).expect("a URL")), "{text}");
        }
        let foreign = [
            "https://example.com/",
            "http://tauri.localhost.evil.example/",
            "http://app.evil.example/",
            "about:blank",
            "data:text/html,x",
            "file:///etc/passwd",
            "blob:tauri://localhost/1",
            "tauri://evil.example/",
        ];
        for text in foreign {
            assert!(!may_navigate(&Url::parse(text).expect("a URL")), "{text}");
        }
    }
}
