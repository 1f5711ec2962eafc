//! The stream of references.

use async_nats::jetstream::{
    Context, ErrorCode,
    context::{CreateStreamErrorKind, GetStreamError, GetStreamErrorKind, RequestError, RequestErrorKind},
    stream::{Config, DiscardPolicy, RetentionPolicy, StorageType, Stream},
};
use serde_json::{Map, Value};

use super::{
    BrokerError, BrokerObject, limits,
    rules::{UNKNOWN, compare_fields},
    stored, tables,
};
use crate::{outbox::SourceIdentity, settings::BrokerSettings};

/// Opens the description; the identity of the source follows.
const DESCRIPTION: &str = "audit references of ";

/// Ends the description of a stream that holds packs. Builds that cannot read them take it for a part of the identity, and refuse
/// the stream as another source's.
const PACKED: &str = " (packed)";

/// Creates the stream when it is missing, and compares it with the settings when it is there.
///
/// # Errors
/// When it exists and is not fit, or belongs to another source, or the broker is away.
pub async fn ensure_stream(
    context: &Context,
    settings: &BrokerSettings,
    source: &SourceIdentity,
) -> Result<Stream, BrokerError> {
    let stream = if let Some(stream) = find_stream(context, settings).await? {
        stream
    } else {
        let description = Some(described(source, false));
        let created = context.create_stream(Config { description, ..wanted(settings) }).await;
        let stream = match created {
            Ok(stream) => stream,
            Err(error) => {
                return Err(match error.kind() {
                    CreateStreamErrorKind::JetStream(refusal) => {
                        limits::explained(context, settings, "create stream", &refusal).await
                    }
                    _ => BrokerError::call("create stream", &error),
                });
            }
        };
        tracing::info!(stream = %settings.stream, subject = %settings.subject, "created the stream");
        stream
    };
    check_stream(context, settings, Some(source)).await?;
    Ok(stream)
}

/// The stream of the settings as it is, or that there is none.
///
/// # Errors
/// When the broker is away, or has no JetStream.
pub async fn find_stream(
    context: &Context,
    settings: &BrokerSettings,
) -> Result<Option<Stream>, BrokerError> {
    match context.get_stream(&settings.stream).await {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if is_not_found(&error.kind()) => Ok(None),
        Err(error) if is_disabled(&error) => Err(BrokerError::no_jetstream(Some(settings), &error)),
        Err(error) => Err(match error.kind() {
            GetStreamErrorKind::JetStream(refusal) => BrokerError::refused("stream info", &refusal),
            _ => BrokerError::call("stream info", &error),
        }),
    }
}

fn wanted(settings: &BrokerSettings) -> Config {
    Config {
        name: settings.stream.clone(),
        subjects: vec![settings.subject.clone()],
        storage: StorageType::File,
        // Limits with one limit: under work-queue retention the duplicate window forgets what has been acknowledged,
        // and with two limits a full stream may drop instead of refusing.
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        max_bytes: settings.max_bytes,
        duplicate_window: settings.duplicate_window,
        num_replicas: settings.replicas,
        ..Config::default()
    }
}

/// Compares a stream with the settings, field by field, and with the source that it should be of, where that is known. Answers
/// what of it is unusual and makes nothing wrong; `None` when there is no stream.
///
/// # Errors
/// When it is not fit, or belongs to another source, or the broker is away.
pub async fn check_stream(
    context: &Context,
    settings: &BrokerSettings,
    source: Option<&SourceIdentity>,
) -> Result<Option<Vec<String>>, BrokerError> {
    match stored::stream(context, &settings.stream).await? {
        Some(found) => compare(settings, &found.config, source).map(Some),
        None => Ok(None),
    }
}

/// Makes an existing stream of another source this one's: the source was restored elsewhere and continues here. Answers
/// whose it was; `None` when there is no stream, or it is this one's already.
///
/// # Errors
/// When the broker is away, or refuses.
pub async fn adopt_stream(
    context: &Context,
    settings: &BrokerSettings,
    source: &SourceIdentity,
) -> Result<Option<String>, BrokerError> {
    let Some(stream) = find_stream(context, settings).await? else {
        return Ok(None);
    };
    let found = &stream.cached_info().config;
    let theirs = found.description.clone().unwrap_or_default();
    // What it holds it holds, whoever's it is.
    let description = described(source, theirs.ends_with(PACKED));
    if theirs == description {
        return Ok(None);
    }
    let config = Config { description: Some(description), ..found.clone() };
    context.update_stream(config).await.map_err(|error| match error.kind() {
        CreateStreamErrorKind::JetStream(refusal) => BrokerError::refused("update stream", &refusal),
        _ => BrokerError::call("update stream", &error),
    })?;
    Ok(Some(source_in(&theirs).unwrap_or(&theirs).to_owned()))
}

/// Says in the description of the stream that it holds packs, before the first one does; nothing takes that back.
///
/// # Errors
/// When there is no stream, or the broker is away, or does not permit it.
pub async fn mark_packed(
    context: &Context,
    settings: &BrokerSettings,
    source: &SourceIdentity,
) -> Result<(), BrokerError> {
    let name = &settings.stream;
    let found = stored::stream(context, name).await?;
    // As the server has it: the client's type would drop what it does not know.
    let mut config =
        found.ok_or_else(|| BrokerError::call("stream info", &format!("there is no stream {name}")))?.config;
    let description = Value::from(described(source, true));
    if config.get("description") == Some(&description) {
        return Ok(());
    }
    config.insert("description".to_owned(), description);
    stored::update_stream(context, name, config).await?;
    tracing::info!(stream = %name, "the stream may hold packs of references from now on");
    Ok(())
}

fn described(source: &SourceIdentity, packed: bool) -> String {
    let packed = if packed { PACKED } else { "" };
    format!("{DESCRIPTION}{source}{packed}")
}

/// The identity in a description of ours.
fn source_in(description: &str) -> Option<&str> {
    let source = description.strip_prefix(DESCRIPTION)?;
    Some(source.strip_suffix(PACKED).unwrap_or(source))
}

/// Whether a stream is not there, as opposed to a broker that is not.
#[must_use]
pub fn is_not_found(kind: &GetStreamErrorKind) -> bool {
    matches!(kind, GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// A server without JetStream does not answer; one that has it for others only says so.
fn is_disabled(error: &GetStreamError) -> bool {
    match error.kind() {
        GetStreamErrorKind::JetStream(error) => matches!(
            error.error_code(),
            ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT
        ),
        _ => std::error::Error::source(error)
            .and_then(|source| source.downcast_ref::<RequestError>())
            .is_some_and(|error| error.kind() == RequestErrorKind::NoResponders),
    }
}

fn compare(
    settings: &BrokerSettings,
    found: &Map<String, Value>,
    source: Option<&SourceIdentity>,
) -> Result<Vec<String>, BrokerError> {
    let description = found.get("description").and_then(Value::as_str);
    let theirs = description.and_then(source_in);
    if let (Some(theirs), Some(source)) = (theirs, source)
        && theirs != source.0
    {
        return Err(BrokerError::ForeignStream {
            stream: settings.stream.clone(),
            theirs: theirs.to_owned(),
            ours: source.to_string(),
        });
    }
    let comparison = compare_fields(&tables::stream(settings), found);
    comparison.require_compatible(
        BrokerObject::Stream(settings.stream.clone()),
        "Change the stream with `nats stream edit`, or the [broker] settings to match it; what cannot be edited goes with `nats \
         stream rm`, and `publisher run` recreates the stream and fills it again",
    )?;
    Ok(comparison.unusual)
}

/// What of a stream is smaller than the settings say. It costs something (room, repeated work, a copy) and makes nothing
/// wrong, so it stops no service.
#[must_use]
pub fn smaller(settings: &BrokerSettings, found: &Config) -> Option<String> {
    let Ok(Value::Object(found)) = serde_json::to_value(found) else {
        return None;
    };
    let told = compare_fields(&tables::sizes(settings), &found).unusual;
    let sizes = told.into_iter().filter(|told| !told.ends_with(UNKNOWN)).collect::<Vec<_>>();
    (!sizes.is_empty()).then(|| sizes.join("; "))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn settings() -> BrokerSettings {
        BrokerSettings {
            stream: "S".into(),
            subject: "s".into(),
            max_bytes: 1_000,
            ..BrokerSettings::default()
        }
    }

    fn fit() -> Config {
        let description = Some(format!("{DESCRIPTION}1/app/public.audit_events"));
        Config { description, num_replicas: 1, ..wanted(&settings()) }
    }

    fn verdict(change: impl FnOnce(&mut Config)) -> String {
        let mut found = fit();
        change(&mut found);
        let source = SourceIdentity("1/app/public.audit_events".into());
        let Value::Object(found) = serde_json::to_value(found).expect("JSON") else {
            panic!("a configuration is an object");
        };
        compare(&settings(), &found, Some(&source)).map_or_else(|error| error.to_string(), |_| "fits".into())
    }

    #[test]
    fn smaller_limits_are_told_and_stop_nobody() {
        let smaller = |change: fn(&mut Config)| {
            assert_eq!(verdict(change), "fits");
            let mut found = fit();
            change(&mut found);
            smaller(&settings(), &found)
        };
        for larger in [
            |_: &mut Config| {},
            |found: &mut Config| found.max_bytes = 2_000,
            |found: &mut Config| found.max_bytes = -1,
            |found: &mut Config| found.num_replicas = 3,
        ] {
            assert_eq!(smaller(larger), None);
        }
        for (field, change) in [
            ("max_bytes is 999", (|found| found.max_bytes = 999) as fn(&mut Config)),
            ("duplicate_window is 1m, must be", |found| found.duplicate_window = Duration::from_secs(60)),
            ("num_replicas", |found| found.num_replicas = 0),
        ] {
            let told = smaller(change).expect("it is smaller");
            assert!(told.starts_with(field), "{field}: {told}");
        }
    }

    #[test]
    fn what_a_stream_must_keep_and_refuse_is_compared() {
        for (field, found) in [
            ("storage", verdict(|found| found.storage = StorageType::Memory)),
            ("discard", verdict(|found| found.discard = DiscardPolicy::Old)),
            ("retention", verdict(|found| found.retention = RetentionPolicy::WorkQueue)),
            ("max_age", verdict(|found| found.max_age = Duration::from_secs(1))),
            ("max_msgs_per_subject", verdict(|found| found.max_messages_per_subject = 1)),
            ("max_msgs ", verdict(|found| found.max_messages = 1)),
            ("no_ack", verdict(|found| found.no_ack = true)),
            ("subjects", verdict(|found| found.subjects = vec!["other".into()])),
        ] {
            assert!(found.contains(field) && found.contains("nats stream edit"), "{field}: {found}");
        }
    }

    #[test]
    fn a_stream_of_another_source_is_refused() {
        for packed in [false, true] {
            let theirs = SourceIdentity("2/app/public.audit_events".into());
            let foreign = verdict(|found| found.description = Some(described(&theirs, packed)));
            assert!(foreign.contains("another source (2/app/public.audit_events;"), "{foreign}");
        }
    }

    #[test]
    fn a_consumer_of_before_refuses_a_packed_stream() {
        let ours = SourceIdentity("1/app/public.audit_events".into());
        // What builds before packs compare: all that follows the prefix.
        let of_before = |description: &str| description.strip_prefix(DESCRIPTION) == Some(ours.0.as_str());
        assert!(of_before(&described(&ours, false)));
        assert!(!of_before(&described(&ours, true)));
        assert_eq!(verdict(|found| found.description = Some(described(&ours, true))), "fits");
    }
}
