//! Files of certificates and keys, read as the drivers read them: their own errors do not say which file it is, and come late.

use std::{fmt, fs, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use sqlx::{
    ConnectOptions as _,
    postgres::{PgConnectOptions, PgSslMode},
};

use crate::UrlError;

/// The files of a connection with TLS, each in PEM: a path, or the text itself.
#[derive(Clone, Default)]
pub struct TlsFiles {
    /// The authorities that may vouch for the server.
    pub authorities: Option<String>,
    /// A client certificate. Goes with its key.
    pub certificate: Option<String>,
    /// Its key, without a password.
    pub key: Option<String>,
}

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFile {
    /// The authorities.
    Authorities,
    /// The client certificate.
    Certificate,
    /// Its key.
    Key,
}

/// Why one of them cannot be used. Holds nothing of what stands in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {why}")]
pub struct TlsFileError {
    /// Which.
    pub file: TlsFile,
    /// As it was given.
    pub path: String,
    /// What is wrong with it.
    pub why: String,
}

impl TlsFiles {
    /// Reads them, and tries whether they can be used together.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn check(&self) -> Result<(), TlsFileError> {
        let mut roots = RootCertStore::empty();
        if let Some(given) = &self.authorities {
            for certificate in certificates(TlsFile::Authorities, given)? {
                roots.add(certificate).map_err(|_| {
                    unusable(TlsFile::Authorities, given, &"a certificate in it cannot be read")
                })?;
            }
        }
        let (certificate, given) = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => (certificate, key),
            (None, None) => return Ok(()),
            (Some(alone), None) => {
                return Err(unusable(TlsFile::Certificate, alone, &"a certificate and its key go together"));
            }
            (None, Some(alone)) => {
                return Err(unusable(TlsFile::Key, alone, &"a key and its certificate go together"));
            }
        };
        let chain = certificates(TlsFile::Certificate, certificate)?;
        let private = private_key(given)?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(TlsFile::Key, given, &error))?;
        match config.with_root_certificates(roots).with_client_auth_cert(chain, private) {
            Ok(_) => Ok(()),
            Err(rustls::Error::InconsistentKeys(_)) => {
                Err(unusable(TlsFile::Key, given, &"its key is not that of the certificate"))
            }
            Err(_) => Err(unusable(TlsFile::Key, given, &"certificate or key cannot be used")),
        }
    }
}

/// Checks the files that a connection to PostgreSQL would read.
///
/// # Errors
/// Names the parameter, the file and what is wrong with it.
pub(crate) fn of_postgres(options: &PgConnectOptions) -> Result<(), UrlError> {
    if matches!(options.get_ssl_mode(), PgSslMode::Disable | PgSslMode::Allow) {
        return Ok(());
    }
    // The only place where the driver shows them. Host and user do not matter here, and need not be fit for a URL as they are.
    let url = options.clone().host("localhost").username("user").to_url_lossy();
    let given = |name: &str| {
        let (_, value) = url.query_pairs().find(|(key, _)| key == name)?;
        Some(value.strip_prefix("file: ").unwrap_or(&value).to_owned())
    };
    let files =
        TlsFiles { authorities: given("sslrootcert"), certificate: given("sslcert"), key: given("sslkey") };
    files.check().map_err(|error| {
        let name = match error.file {
            TlsFile::Authorities => "sslrootcert",
            TlsFile::Certificate => "sslcert",
            TlsFile::Key => "sslkey",
        };
        UrlError::new(format!("{name}: {error}"))
    })
}

fn private_key(given: &str) -> Result<PrivateKeyDer<'static>, TlsFileError> {
    let text = pem(TlsFile::Key, given)?;
    let private = PrivateKeyDer::from_pem_slice(text.as_bytes()).ok();
    private.filter(|_| !text.contains("Proc-Type: 4,ENCRYPTED")).ok_or_else(|| {
        let why = match () {
            () if text.contains("ENCRYPTED") => "its key is encrypted: write it without a password",
            () if text.contains("PRIVATE KEY") => "its key cannot be read",
            () => "it holds no private key",
        };
        unusable(TlsFile::Key, given, &why)
    })
}

/// All certificates of a file, of which there is one at least.
fn certificates(file: TlsFile, given: &str) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let text = pem(file, given)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(unusable(file, given, &"it holds no certificate")),
        Err(_) => Err(unusable(file, given, &"a certificate in it is not whole")),
    }
}

fn pem(file: TlsFile, given: &str) -> Result<String, TlsFileError> {
    if is_text(given) {
        return Ok(given.to_owned());
    }
    let text = fs::read_to_string(given).map_err(|error| unusable(file, given, &error))?;
    if text.contains("-----BEGIN ") { Ok(text) } else { Err(unusable(file, given, &"it is not PEM")) }
}

/// Whether it is the text itself, as the driver has it.
fn is_text(given: &str) -> bool {
    let given = given.trim();
    given.starts_with("-----BEGIN") && given.ends_with("-----")
}

fn unusable(file: TlsFile, given: &str, why: &dyn fmt::Display) -> TlsFileError {
    let path = if is_text(given) { "the text in its place" } else { given };
    TlsFileError { file, path: path.to_owned(), why: why.to_string() }
}
