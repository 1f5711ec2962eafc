//! What the settings file says of the host's tables, for the pages that compare it with what is deployed.

use common::service::ServiceError;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use threadline::{
    capture::Refusal,
    coverage::settings::{CaptureSection, CoverageSection, expectations, retained},
    retention,
};

use super::auth::misused;
use crate::Policies;

/// Of the sections `[capture]`, `[coverage]` and `[retention]` in the text of a settings file; none where it has none of them.
///
/// # Errors
/// What of them cannot be used, with the section.
pub(super) fn read(text: &str) -> Result<Option<Policies>, ServiceError> {
    let mut file: toml::Table =
        toml::from_str(text).map_err(|error| misused(format!("the settings file: {}", error.message())))?;
    let capture: Option<CaptureSection> = section(&mut file, "capture")?;
    let coverage: Option<CoverageSection> = section(&mut file, "coverage")?;
    let retention: Option<Map<String, Value>> = section(&mut file, "retention")?;
    if capture.is_none() && coverage.is_none() && retention.is_none() {
        return Ok(None);
    }
    let refused = |name: &'static str| move |refusal: Refusal| misused(format!("{name}: {refusal}"));
    let mut expected = expectations(&coverage.unwrap_or_default(), &capture.unwrap_or_default())
        .map_err(refused("[capture], [coverage]"))?;
    expected.retained = retained(retention.as_ref()).map_err(refused("[retention]"))?;
    let policies = Policies::new(expected);
    let Some(retention) = retention else { return Ok(Some(policies)) };
    let retention = retention::Policy::read(&retention).map_err(refused("[retention]"))?;
    Ok(Some(policies.retention(retention)))
}

fn section<T: DeserializeOwned>(
    file: &mut toml::Table,
    name: &'static str,
) -> Result<Option<T>, ServiceError> {
    let read = file.remove(name).map(toml::Value::try_into).transpose();
    read.map_err(|error: toml::de::Error| misused(format!("[{name}]: {}", error.message())))
}
