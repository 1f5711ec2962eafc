//! What the application and this service share: one secret, or two while it is changed.

use common::{service::ServiceError, settings::SignedSettings};
use ring::hmac;

use crate::serve::auth::{misused, read};

/// As many as are needed to change one without a pause.
const COUNT_MAX: usize = 2;

/// Characters of a secret.
const CHARS_MIN: usize = 32;

/// Each with its id.
#[derive(Debug)]
pub(super) struct Secrets(Vec<(String, hmac::Key)>);

impl Secrets {
    pub(super) fn of(settings: &SignedSettings) -> Result<Self, ServiceError> {
        const KEY: &str = "operator.auth.signed.keys_file";
        let path = settings.keys_file.as_deref().unwrap_or_default();
        let text = read(KEY, path)?;
        Self::parsed(&text).map_err(|error| misused(format!("{KEY}: {path} {error}")))
    }

    /// Lines of an id and a secret; empty ones and those that begin with `#` are left out. What is said of a fault holds nothing of a secret.
    pub(super) fn parsed(text: &str) -> Result<Self, String> {
        let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        let mut secrets: Vec<(String, hmac::Key)> = Vec::new();
        for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let Some((id, secret)) = line.split_once(char::is_whitespace) else {
                return Err(format!("has no id and secret with a space between them in line {number}"));
            };
            let secret = secret.trim();
            if secret.len() < CHARS_MIN {
                return Err(format!(
                    "has a secret of less than {CHARS_MIN} characters in line {number}: `openssl rand -hex 32` makes one"
                ));
            }
            if secrets.iter().any(|(known, _)| known == id) {
                return Err(format!("has the id of line {number} twice"));
            }
            secrets.push((id.to_owned(), hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())));
        }
        if secrets.is_empty() || secrets.len() > COUNT_MAX {
            return Err(format!("has {} secrets: it needs one, or two while it is changed", secrets.len()));
        }
        Ok(Self(secrets))
    }

    /// The id of the secret that this was signed with. How long it takes says nothing of the signature that would be right.
    pub(super) fn signer(&self, message: &[u8], mac: &[u8]) -> Option<&str> {
        let signed_it = |(_, key): &&(String, hmac::Key)| hmac::verify(key, message, mac).is_ok();
        self.0.iter().find(signed_it).map(|(id, _)| id.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_secrets_that_cannot_be_used_says_why_and_shows_none() {
        let secret = "0123456789abcdef0123456789abcdef";
        for (text, part) in [
            (String::new(), "has 0 secrets"),
            ("# nothing\n\n".to_owned(), "has 0 secrets"),
            (secret.to_owned(), "in line 1"),
            (format!("# of the host\nk1 {}", &secret[1..]), "less than 32 characters in line 2"),
            (format!("k1 {secret}\nk1 {secret}"), "has the id of line 2 twice"),
            (format!("k1 {secret}\nk2 {secret}\nk3 {secret}"), "has 3 secrets"),
        ] {
            let error = Secrets::parsed(&text).expect_err(&text);
            assert!(error.contains(part) && !error.contains(&secret[2..20]), "{text}: {error}");
        }
    }

    #[test]
    fn each_of_two_secrets_counts_while_one_is_changed() {
        let secrets = Secrets::parsed(
            "new  0123456789abcdef0123456789abcdef\r\nold\tfedcba9876543210fedcba9876543210\n",
        )
        .expect("two secrets");
        for (id, secret) in
            [("new", "0123456789abcdef0123456789abcdef"), ("old", "fedcba9876543210fedcba9876543210")]
        {
            let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), b"message");
            assert_eq!(secrets.signer(b"message", mac.as_ref()), Some(id));
            assert_eq!(secrets.signer(b"another", mac.as_ref()), None);
            assert_eq!(secrets.signer(b"message", &mac.as_ref()[..31]), None);
        }
    }
}
