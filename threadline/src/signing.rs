//! Ed25519 keys that sign what somebody else is to verify, and the hexadecimal form of keys, digests and signatures.

use std::{fmt::Write as _, path::Path};

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer, pem::PemObject as _};

/// What stands before the 32 bytes of an Ed25519 key in the DER form of a public key (RFC 8410).
const SUBJECT_PUBLIC_KEY: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Bytes of a public key.
const PUBLIC_BYTES: usize = 32;

/// A key that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {path} as {what}: {reason}. {remedy}")]
pub struct KeyError {
    path: String,
    what: &'static str,
    reason: String,
    remedy: String,
}

/// An Ed25519 key that signs.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// Reads a PKCS#8 key in PEM form.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let refuse = |reason: String| KeyError {
            path: path.display().to_string(),
            what: "a key that signs",
            reason,
            remedy: format!("Make one with: openssl genpkey -algorithm ed25519 -out {}", path.display()),
        };
        let key = PrivatePkcs8KeyDer::from_pem_file(path).map_err(|error| refuse(error.to_string()))?;
        Self::from_pkcs8(key.secret_pkcs8_der()).map_err(refuse)
    }

    /// Of a PKCS#8 document.
    pub(crate) fn from_pkcs8(document: &[u8]) -> Result<Self, String> {
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(document).map(Self).map_err(|error| error.to_string())
    }

    /// The public half, in hexadecimal.
    #[must_use]
    pub fn public(&self) -> String {
        hexadecimal(self.0.public_key().as_ref())
    }

    /// The 64 bytes of a signature.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.public())
    }
}

/// A public key in hexadecimal: given as that, or as a file in PEM form, as `openssl pkey -pubout` writes it.
///
/// # Errors
/// When it is neither.
pub fn public_key(given: &str) -> Result<String, KeyError> {
    if given.len() == 2 * PUBLIC_BYTES && bytes(given).is_some() {
        return Ok(given.to_ascii_lowercase());
    }
    let refuse = |reason: String| KeyError {
        path: given.to_owned(),
        what: "a public key",
        reason,
        remedy: "Give 64 hexadecimal digits, or a file from: openssl pkey -in KEY -pubout".to_owned(),
    };
    let key = SubjectPublicKeyInfoDer::from_pem_file(given).map_err(|error| refuse(error.to_string()))?;
    match key.strip_prefix(&SUBJECT_PUBLIC_KEY) {
        Some(key) if key.len() == PUBLIC_BYTES => Ok(hexadecimal(key)),
        _ => Err(refuse("it is no Ed25519 key".to_owned())),
    }
}

/// Whether this is a signature over the message by the key, which is in hexadecimal.
pub(crate) fn is_signed(key: &str, message: &[u8], signature: &[u8]) -> bool {
    bytes(key).is_some_and(|key| UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok())
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes of a text in hexadecimal.
pub(crate) fn bytes(text: &str) -> Option<Vec<u8>> {
    let is_digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let pairs = text.as_bytes().chunks(2);
    is_digits
        .then(|| pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_none_says_how_to_make_one() {
        let Err(error) = SigningKey::read(Path::new("/nonexistent/key.pem")) else {
            panic!("there is no such file");
        };
        assert!(error.to_string().contains("openssl genpkey -algorithm ed25519"), "{error}");
        let Err(error) = public_key("/nonexistent/key.pem") else { panic!("there is no such file") };
        assert!(error.to_string().contains("openssl pkey"), "{error}");
    }

    #[test]
    fn a_public_key_is_64_digits() {
        let digits = "AB".repeat(32);
        assert_eq!(public_key(&digits).ok(), Some(digits.to_lowercase()));
        assert!(public_key(&"zz".repeat(32)).is_err());
        assert!(public_key("+1").is_err());
    }
}
