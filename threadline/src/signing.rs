//! Ed25519 keys that sign what somebody else is to verify, and the hexadecimal form of keys, digests and signatures.

use std::{
    fmt::Write as _,
    fs,
    io::{Error, ErrorKind},
    path::Path,
};

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use rustls::pki_types::pem::{PemObject as _, SectionKind};

/// What stands before the 32 bytes of an Ed25519 key in the DER form of a public key (RFC 8410).
const SUBJECT_PUBLIC_KEY: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Bytes of a public key.
const PUBLIC_BYTES: usize = 32;

/// Bytes of a SHA-256.
const HASH_BYTES: usize = 32;

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
    /// When the file cannot be read or holds something else. Only of a file that is not there it is said how one is made: whoever makes one in the
    /// place of a key loses that key.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let refuse = |reason: String, remedy: String| KeyError {
            path: path.display().to_string(),
            what: "a key that signs",
            reason,
            remedy,
        };
        let text = fs::read(path).map_err(|error| {
            let made = format!("Make one with: openssl genpkey -algorithm ed25519 -out {}", path.display());
            refuse(error.to_string(), remedy_of_file(&error).unwrap_or(made))
        })?;
        let other = "Give the file of a private Ed25519 key; this one was left as it is".to_owned();
        let key = match section(&text, SectionKind::PrivateKey) {
            Ok(key) => key,
            Err(Some(SectionKind::PublicKey)) => {
                let remedy = "Give the file of the private key that it was made from".to_owned();
                return Err(refuse("it is a public key".to_owned(), remedy));
            }
            Err(Some(SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey)) => {
                return Err(refuse("it is no Ed25519 key".to_owned(), other));
            }
            Err(_) => {
                let reason = "it holds no private key in PEM form (PKCS#8, without a passphrase)".to_owned();
                return Err(refuse(reason, other));
            }
        };
        Self::from_pkcs8(&key).map_err(|error| refuse(format!("it is no Ed25519 key: {error}"), other))
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
    let refuse = |reason: String, remedy: Option<String>| KeyError {
        path: given.to_owned(),
        what: "a public key",
        reason,
        remedy: remedy.unwrap_or_else(|| {
            "Give 64 hexadecimal digits, or a file from: openssl pkey -in KEY -pubout".to_owned()
        }),
    };
    let text = fs::read(given).map_err(|error| refuse(error.to_string(), remedy_of_file(&error)))?;
    let key = section(&text, SectionKind::PublicKey).map_err(|other| {
        let is_private = matches!(
            other,
            Some(SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey)
        );
        let reason = if is_private { "it is a private key" } else { "it holds no public key in PEM form" };
        refuse(reason.to_owned(), None)
    })?;
    match key.strip_prefix(&SUBJECT_PUBLIC_KEY) {
        Some(key) if key.len() == PUBLIC_BYTES => Ok(hexadecimal(key)),
        _ => Err(refuse("it is no Ed25519 key".to_owned(), None)),
    }
}

/// A SHA-256 as somebody has kept it, in hexadecimal of either case.
///
/// # Errors
/// In words, when it is none.
pub fn hash(given: &str) -> Result<String, String> {
    let is_hash = given.len() == 2 * HASH_BYTES && bytes(given).is_some();
    is_hash.then(|| given.to_ascii_lowercase()).ok_or_else(|| {
        format!("this is no hash of a receipt, which has {} hexadecimal digits", 2 * HASH_BYTES)
    })
}

/// What to do about a file that is there and cannot be read.
fn remedy_of_file(error: &Error) -> Option<String> {
    let is_there = error.kind() != ErrorKind::NotFound;
    is_there
        .then(|| "See to it that the user of this process may read the file, or give another one".to_owned())
}

/// The first section of this kind; else of which kind the first of all is, if there is one.
fn section(text: &[u8], kind: SectionKind) -> Result<Vec<u8>, Option<SectionKind>> {
    let mut first = None;
    for (found, content) in <(SectionKind, Vec<u8>)>::pem_slice_iter(text).map_while(Result::ok) {
        if found == kind {
            return Ok(content);
        }
        first.get_or_insert(found);
    }
    Err(first)
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

    /// Of what kind a file is, as `openssl genpkey` and `openssl pkey -pubout` write it, and what is said of it.
    #[test]
    fn only_a_key_that_is_not_there_is_to_be_made() -> Result<(), Error> {
        const ED25519: &str = "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC";
        const PUBLIC: &str = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";
        // X25519 (RFC 8410) agrees on keys, and signs nothing.
        const X25519: &str = "MC4CAQAwBQYDK2VuBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC";
        let refused = |path: &Path| SigningKey::read(path).map(drop).expect_err("no key").to_string();
        let absent = refused(Path::new("/nonexistent/key.pem"));
        assert!(
            absent.ends_with("Make one with: openssl genpkey -algorithm ed25519 -out /nonexistent/key.pem"),
            "{absent}"
        );
        let work_dir = sandbox::work_dir::WorkDir::create().expect("a folder");
        let path = work_dir.path().join("key.pem");
        let write = |label: &str, content: &str| {
            fs::write(&path, format!("-----BEGIN {label}-----\n{content}\n-----END {label}-----\n"))
        };
        for (label, content, said) in [
            (
                "PUBLIC KEY",
                PUBLIC,
                "it is a public key. Give the file of the private key that it was made from",
            ),
            ("PRIVATE KEY", X25519, "it is no Ed25519 key: "),
            ("RSA PRIVATE KEY", "MAA=", "it is no Ed25519 key. "),
            (
                "ENCRYPTED PRIVATE KEY",
                "MAA=",
                "it holds no private key in PEM form (PKCS#8, without a passphrase). ",
            ),
        ] {
            write(label, content)?;
            let error = refused(&path);
            assert!(error.contains(said) && !error.contains("genpkey"), "{label}: {error}");
        }
        fs::write(&path, "hello")?;
        assert!(!refused(&path).contains("genpkey"));
        let folder = refused(work_dir.path());
        assert!(folder.contains("may read the file") && !folder.contains("genpkey"), "{folder}");
        let given = path.display().to_string();
        write("PRIVATE KEY", ED25519)?;
        assert!(SigningKey::read(&path).is_ok());
        let private = public_key(&given).expect_err("a private key").to_string();
        assert!(
            private.contains("it is a private key. Give 64 hexadecimal digits, or a file from"),
            "{private}"
        );
        write("PUBLIC KEY", PUBLIC)?;
        let key = SigningKey::read(&path).map(drop);
        assert!(key.is_err() && public_key(&given).is_ok_and(|key| key.starts_with("19bf4409")));
        let absent = public_key("/nonexistent/key.pem").expect_err("there is no such file").to_string();
        assert!(absent.contains("openssl pkey"), "{absent}");
        Ok(())
    }

    #[test]
    fn a_public_key_is_64_digits() {
        let digits = "AB".repeat(32);
        assert_eq!(public_key(&digits).ok(), Some(digits.to_lowercase()));
        assert!(public_key(&"zz".repeat(32)).is_err());
        assert!(public_key("+1").is_err());
    }
}
