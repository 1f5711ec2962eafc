//! Credentials for the broker in addition to user and password: keys and certificates, each in a file.

use std::fmt;

use async_nats::ConnectOptions;
use connection_url::{TlsFile, TlsFileError, TlsFiles};

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
    let BrokerSettings { tls_ca_file, tls_cert_file, tls_key_file, .. } = settings.clone();
    let files = TlsFiles { authorities: tls_ca_file, certificate: tls_cert_file, key: tls_key_file };
    files.check().map_err(|TlsFileError { file, path, why }| {
        let key = match file {
            TlsFile::Authorities => "broker.tls_ca_file",
            TlsFile::Certificate => "broker.tls_cert_file",
            TlsFile::Key => "broker.tls_key_file",
        };
        unusable(key, &path, &why)
    })
}

fn unusable(key: &'static str, path: &str, error: &dyn fmt::Display) -> BrokerError {
    BrokerError::File { key, path: path.to_owned(), error: error.to_string() }
}
