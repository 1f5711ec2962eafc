//! The parts of a URL, by their separators alone: whatever stands in them.

use percent_encoding::percent_decode_str;

/// `scheme://[user@]hosts[/path][?query][#fragment]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parts<'a> {
    /// Before `://`.
    pub(crate) scheme: &'a str,
    /// User and password, up to the last `@` before the path.
    pub(crate) user: Option<&'a str>,
    /// One host or several, with their ports.
    pub(crate) hosts: &'a str,
    /// Path, query and fragment with their separators.
    pub(crate) tail: &'a str,
}

impl<'a> Parts<'a> {
    /// `None` of what is no URL with an authority.
    pub(crate) fn of(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://").filter(|(scheme, _)| is_scheme(scheme))?;
        let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
        Some(Self { scheme, user, hosts, tail })
    }

    /// The query and nothing else of the tail: `None` without one.
    pub(crate) fn query(&self) -> Option<&'a str> {
        let tail = self.tail.split('#').next().unwrap_or_default();
        tail.split_once('?').map(|(_, query)| query)
    }

    /// What stands where the path does.
    pub(crate) fn path(&self) -> &'a str {
        self.tail.split(['?', '#']).next().unwrap_or_default()
    }
}

/// Whether percent-encoding stands for text: undone blindly, a typing error would become another password.
pub(crate) fn is_encoded(text: &str) -> bool {
    let escapes = text
        .split('%')
        .skip(1)
        .all(|rest| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit()));
    let decoded = percent_decode_str(text).decode_utf8();
    escapes && decoded.is_ok_and(|decoded| !decoded.contains('\0'))
}

pub(crate) const NOT_ENCODED: &str = "a % in user, password or token of it does not begin an escape of UTF-8 text such as %25, which is the % itself";

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

/// The addresses of a list. A comma separates two where a scheme follows it, or where it stands behind user and password: in
/// these it may be a part of them.
pub(crate) fn addresses(text: &str) -> Vec<String> {
    let mut addresses = Vec::new();
    for one in with_scheme(text) {
        match Parts::of(one) {
            Some(parts) if parts.hosts.contains(',') => {
                let user = parts.user.map_or_else(String::new, |user| format!("{user}@"));
                for (index, host) in parts.hosts.split(',').enumerate() {
                    let user = if index == 0 { &user } else { "" };
                    addresses.push(format!("{}://{user}{host}{}", parts.scheme, parts.tail));
                }
            }
            _ => addresses.push(one.to_owned()),
        }
    }
    addresses
}

fn with_scheme(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut begin = 0;
    for (comma, _) in text.match_indices(',') {
        let follows = text[comma + 1..].split_once("://").is_some_and(|(scheme, _)| is_scheme(scheme));
        if follows {
            found.push(&text[begin..comma]);
            begin = comma + 1;
        }
    }
    found.push(&text[begin..]);
    found
}
