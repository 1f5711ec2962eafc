//! What opens the broker beside user and password: keys and certificates, each in a file.

use std::{fmt, sync::Arc};

use async_nats::ConnectOptions;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::BrokerError;
use crate::settings::BrokerSettings;

/// Options with what the files of the settings hold.
///
/// # Errors
/// When a file cannot be used; with its setting, and nothing of what stands in it.
pub(super) async fn granted(
    mut options: ConnectOptions,
    settings: &BrokerSettings,
) -> Result<ConnectOptions, BrokerError> {
    if let Some(path) = &settings.credentials_file {
        let read = options.credentials_file(path).await;
        options = read.map_err(|error| unusable("broker.credentials_file", path, &error))?;
    }
    if let Some(path) = &settings.nkey_seed_file {
        let key = "broker.nkey_seed_file";
        let text = std::fs::read_to_string(path).map_err(|error| unusable(key, path, &error))?;
        let seed = text.lines().map(str::trim).find(|line| line.starts_with("SU"));
        let seed = seed.ok_or_else(|| unusable(key, path, &"no line of it is the seed of a user (SU…)"))?;
        if nkeys::KeyPair::from_seed(seed).is_err() {
            return Err(unusable(key, path, &"the seed in it is not whole"));
        }
        options = options.nkey(seed.to_owned());
    }
    tls_files(settings)?;
    if let Some(path) = &settings.tls_ca_file {
        options = options.add_root_certificates(path.into());
    }
    if let (Some(certificate), Some(key)) = (&settings.tls_cert_file, &settings.tls_key_file) {
        options = options.add_client_certificate(certificate.into(), key.into());
    }
    Ok(if settings.insists_on_tls() { options.require_tls(true) } else { options })
}

/// Reads what the client is going to read, as it does: its own error would not say which file it is, and comes late.
fn tls_files(settings: &BrokerSettings) -> Result<(), BrokerError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &settings.tls_ca_file {
        let key = "broker.tls_ca_file";
        for certificate in certificates(key, path)? {
            roots.add(certificate).map_err(|_| unusable(key, path, &"a certificate in it cannot be read"))?;
        }
    }
    let (Some(certificate_path), Some(path)) = (&settings.tls_cert_file, &settings.tls_key_file) else {
        return Ok(());
    };
    let chain = certificates("broker.tls_cert_file", certificate_path)?;
    let key = "broker.tls_key_file";
    let text = pem(key, path)?;
    let private = PrivateKeyDer::from_pem_slice(text.as_bytes())
        .ok()
        .filter(|_| !text.contains("Proc-Type: 4,ENCRYPTED"));
    let private = private.ok_or_else(|| {
        let why = match () {
            () if text.contains("ENCRYPTED") => "its key is encrypted: write it without a password",
            () if text.contains("PRIVATE KEY") => "its key cannot be read",
            () => "it holds no private key",
        };
        unusable(key, path, &why)
    })?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(key, path, &error))?;
    match config.with_root_certificates(roots).with_client_auth_cert(chain, private) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(unusable(key, path, &"its key is not that of the certificate in broker.tls_cert_file"))
        }
        Err(_) => Err(unusable(key, path, &"certificate (broker.tls_cert_file) or key cannot be used")),
    }
}

/// All certificates of a file, of which there is one at least.
fn certificates(key: &'static str, path: &str) -> Result<Vec<CertificateDer<'static>>, BrokerError> {
    let text = pem(key, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(unusable(key, path, &"it holds no certificate")),
        Err(_) => Err(unusable(key, path, &"a certificate in it is not whole")),
    }
}

fn pem(key: &'static str, path: &str) -> Result<String, BrokerError> {
    let text = std::fs::read_to_string(path).map_err(|error| unusable(key, path, &error))?;
    if text.contains("-----BEGIN ") { Ok(text) } else { Err(unusable(key, path, &"it is not PEM")) }
}

fn unusable(key: &'static str, path: &str, error: &dyn fmt::Display) -> BrokerError {
    BrokerError::File { key, path: path.to_owned(), error: error.to_string() }
}
