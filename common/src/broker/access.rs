//! What opens the broker beside user and password: keys and certificates, each in a file.

use std::fmt;

use async_nats::ConnectOptions;

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
        options = options.nkey(seed.to_owned());
    }
    for (key, path) in [
        ("broker.tls_ca_file", &settings.tls_ca_file),
        ("broker.tls_cert_file", &settings.tls_cert_file),
        ("broker.tls_key_file", &settings.tls_key_file),
    ] {
        // The client's own error would not say which.
        if let Some(path) = path {
            let text = std::fs::read_to_string(path).map_err(|error| unusable(key, path, &error))?;
            if !text.contains("-----BEGIN ") {
                return Err(unusable(key, path, &"it is not PEM"));
            }
        }
    }
    if let Some(path) = &settings.tls_ca_file {
        options = options.add_root_certificates(path.into());
    }
    if let (Some(certificate), Some(key)) = (&settings.tls_cert_file, &settings.tls_key_file) {
        options = options.add_client_certificate(certificate.into(), key.into());
    }
    Ok(if settings.insists_on_tls() { options.require_tls(true) } else { options })
}

fn unusable(key: &'static str, path: &str, error: &dyn fmt::Display) -> BrokerError {
    BrokerError::File { key, path: path.to_owned(), error: error.to_string() }
}
