//! Secrets where none belong: found before they are shown.

/// Whether a text is a secret itself, where the path of its file belongs: PEM, a seed, the content of a credentials file.
pub(super) fn is_secret(text: &str) -> bool {
    let text = text.trim();
    let base32 = |c: char| c.is_ascii_uppercase() || ('2'..='7').contains(&c);
    let seed = text.len() >= 20 && text.starts_with('S') && text.chars().all(base32);
    seed || text.contains("-----BEGIN") || text.contains("NKEY SEED") || text.starts_with("eyJ")
}

/// A text of whose URLs user and password are not shown.
pub(super) fn masked(text: &str) -> String {
    match (text.find("://"), text.rfind('@')) {
        (Some(begin), Some(end)) if begin < end => format!("{}***{}", &text[..begin + 3], &text[end..]),
        _ if is_secret(text) => "***".to_owned(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_told_from_a_path() {
        for secret in [
            "SUAM6BBSYFKMSVKL4XCOWXSOHIUEGQIV6CNOKEGGWYQ5GPUYNDIYDAVNFE",
            "-----BEGIN PRIVATE KEY-----\nMIIE",
            "-----BEGIN NATS USER JWT-----\neyJ0",
            "eyJ0eXAiOiJKV1QiLCJhbGciOiJlZDI1NTE5LW5rZXkifQ.e30.x",
        ] {
            assert!(is_secret(secret), "{secret}");
        }
        for path in ["/run/secrets/nats.creds", "SEED", "seeds/SUAM", "./key.pem", ""] {
            assert!(!is_secret(path), "{path}");
        }
    }

    #[test]
    fn a_password_in_a_key_is_masked() {
        assert_eq!(
            masked("unknown field `nats://u:p@ss@h`, expected"),
            "unknown field `nats://***@h`, expected"
        );
        assert_eq!(masked("relay.page_rows"), "relay.page_rows");
    }
}
