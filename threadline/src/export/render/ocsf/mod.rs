//! An entry as an event of OCSF, the Open Cybersecurity Schema Framework. What the schema has no place for stands under `unmapped`, as
//! the profile full writes it.

mod table;

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use time::OffsetDateTime;

use self::table::{Activity, Class, SEVERITY, VERSION, of_action, of_change, status, user_type};
use crate::query::{Action, Change, Entry, Json, LinkedAction, Transaction, canonical::members, time_text};

/// What stands where the schema wants a value and there is none.
const UNKNOWN: &str = "Unknown";

#[derive(Serialize)]
struct Event<'e> {
    activity_id: u32,
    activity_name: &'e str,
    category_uid: u32,
    category_name: &'e str,
    class_uid: u32,
    class_name: &'e str,
    type_uid: u32,
    #[serde(serialize_with = "milliseconds")]
    time: OffsetDateTime,
    time_dt: String,
    severity_id: u32,
    severity: &'e str,
    status_id: u32,
    status: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_detail: Option<&'e str>,
    message: String,
    metadata: Metadata<'e>,
    actor: Actor<'e>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'e User>,
    #[serde(skip_serializing_if = "Option::is_none")]
    src_endpoint: Option<Endpoint<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<Named<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api: Option<Api<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<Table>,
    #[serde(skip_serializing_if = "Option::is_none")]
    type_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'e str>,
    unmapped: BTreeMap<String, Json>,
}

#[derive(Serialize)]
struct Metadata<'e> {
    version: &'e str,
    profiles: [&'e str; 1],
    product: Product<'e>,
    uid: String,
    log_name: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_uid: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<i64>,
}

#[derive(Serialize)]
struct Product<'e> {
    name: &'e str,
    version: &'e str,
}

#[derive(Serialize)]
struct Actor<'e> {
    user: &'e User,
}

#[derive(Serialize)]
struct User {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
    type_id: u32,
    r#type: String,
}

/// Where it came from: what the host calls its source.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Endpoint<'e> {
    SvcName(&'e str),
    Name(&'e str),
}

#[derive(Serialize)]
struct Named<'e> {
    name: &'e str,
}

#[derive(Serialize)]
struct Api<'e> {
    operation: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<Request<'e>>,
}

#[derive(Serialize)]
struct Request<'e> {
    uid: &'e str,
}

#[derive(Serialize)]
struct Table {
    name: String,
}

/// Appends the event. The documents of the entry are in canonical form.
pub(super) fn write(entry: &Entry, out: &mut String) -> Result<(), serde_json::Error> {
    let event = match entry {
        Entry::Change(of) => {
            let user = user(of_change_actor(of));
            let unmapped = unmapped(entry, &OF_CHANGE)?;
            serde_json::to_string(&change(of, &user, unmapped))
        }
        Entry::Action(of) | Entry::Event(of) => {
            let user = user(Some(&of.action.actor_ref));
            let (class, activity) = of_action(&of.action.name, of.action.verb.as_deref());
            let mut unmapped = unmapped(entry, &OF_ACTION)?;
            if class == Class::Api {
                unmapped.remove("request_id");
            }
            serde_json::to_string(&action(of, class, activity, &user, unmapped))
        }
    };
    out.push_str(&event?);
    Ok(())
}

/// Members of a change in full that stand elsewhere in the event.
const OF_CHANGE: [&str; 5] = ["id", "table_schema", "table_name", "captured_at", "position"];

/// The same of an action or event.
const OF_ACTION: [&str; 6] = ["id", "name", "status", "reason", "correlation_id", "inserted_at"];

fn unmapped(entry: &Entry, mapped: &[&str]) -> Result<BTreeMap<String, Json>, serde_json::Error> {
    let full = RawValue::from_string(serde_json::to_string(entry)?)?;
    let mut members = members(&full);
    members.retain(|name, value| value.get() != "null" && !mapped.contains(&name.as_str()));
    Ok(members)
}

fn change<'e>(of: &'e Change, user: &'e User, unmapped: BTreeMap<String, Json>) -> Event<'e> {
    let activity = of_change(&of.op);
    let name = format!("{}.{}", of.table_schema, of.table_name);
    let of_transaction = of.transaction.as_ref();
    let correlation = of_transaction.and_then(|transaction| transaction.correlation_id.as_deref());
    let of_action = || of.action.as_ref()?.correlation_id.as_deref();
    Event {
        message: format!("{} {name}", of.op),
        src_endpoint: Some(endpoint(of_transaction)),
        table: Some(Table { name }),
        type_id: Some(3),
        r#type: Some("Table"),
        metadata: Metadata {
            log_name: "audit_changes",
            correlation_uid: correlation.or_else(of_action),
            sequence: Some(of.position),
            ..metadata(of.id)
        },
        // What is captured has been committed.
        ..event(Class::Datastore, activity, "ok", of.captured_at, user, unmapped)
    }
}

fn action<'e>(
    of: &'e LinkedAction,
    class: Class,
    activity: Activity<'e>,
    user: &'e User,
    unmapped: BTreeMap<String, Json>,
) -> Event<'e> {
    let LinkedAction { action, transaction } = of;
    let Action { name, request_id, reason, status, .. } = action;
    let source = transaction.as_ref().and_then(|transaction| transaction.source.as_deref());
    let is_api = class == Class::Api;
    let request = request_id.as_deref().map(|uid| Request { uid });
    Event {
        message: name.clone(),
        status_code: Some(status),
        status_detail: reason.as_deref(),
        user: (!is_api).then_some(user),
        src_endpoint: is_api.then(|| endpoint(transaction.as_ref())),
        service: (!is_api).then(|| Named { name: source.unwrap_or(UNKNOWN) }),
        api: is_api.then_some(Api { operation: name, request }),
        metadata: Metadata {
            log_name: "audit_actions",
            correlation_uid: action.correlation_id.as_deref(),
            ..metadata(action.id)
        },
        ..event(class, activity, status, action.inserted_at, user, unmapped)
    }
}

/// What events of all classes have.
fn event<'e>(
    class: Class,
    (activity_id, activity_name): Activity<'e>,
    stored_status: &'e str,
    at: OffsetDateTime,
    user: &'e User,
    unmapped: BTreeMap<String, Json>,
) -> Event<'e> {
    let (category_uid, category_name) = class.category();
    let (severity_id, severity) = SEVERITY;
    let (status_id, status) = status(stored_status);
    Event {
        activity_id,
        activity_name,
        category_uid,
        category_name,
        class_uid: class.uid(),
        class_name: class.name(),
        // As the schema says of type_uid.
        type_uid: class.uid() * 100 + activity_id,
        time: at,
        time_dt: time_text(at),
        severity_id,
        severity,
        status_id,
        status,
        status_code: None,
        status_detail: None,
        message: String::new(),
        metadata: metadata(uuid::Uuid::nil()),
        actor: Actor { user },
        user: None,
        src_endpoint: None,
        service: None,
        api: None,
        table: None,
        type_id: None,
        r#type: None,
        unmapped,
    }
}

fn metadata<'e>(id: uuid::Uuid) -> Metadata<'e> {
    Metadata {
        version: VERSION,
        // Which has time_dt.
        profiles: ["datetime"],
        product: Product { name: "Threadline", version: env!("CARGO_PKG_VERSION") },
        uid: id.to_string(),
        log_name: "",
        correlation_uid: None,
        sequence: None,
    }
}

/// Who changed a row: the actor of its transaction, or else of the linked action.
fn of_change_actor(change: &Change) -> Option<&RawValue> {
    let of_transaction = change.transaction.as_ref().and_then(|transaction| transaction.actor_ref.as_deref());
    of_transaction.or_else(|| change.action.as_ref().map(|action| &*action.actor_ref))
}

fn user(actor_ref: Option<&RawValue>) -> User {
    let members = actor_ref.map(members).unwrap_or_default();
    let text = |name: &str| serde_json::from_str::<String>(members.get(name)?.get()).ok();
    let (kind, uid) = (text("type"), text("id"));
    let (type_id, name) = user_type(kind.as_deref());
    let anonymous = if kind.as_deref() == Some("anonymous") { "anonymous" } else { UNKNOWN };
    User { name: uid.is_none().then_some(anonymous), uid, type_id, r#type: name.to_owned() }
}

fn endpoint(transaction: Option<&Transaction>) -> Endpoint<'_> {
    let source = transaction.and_then(|transaction| transaction.source.as_deref());
    source.map_or(Endpoint::Name(UNKNOWN), Endpoint::SvcName)
}

/// Milliseconds since the epoch, cut off: `time_dt` has the microseconds.
fn milliseconds<S: Serializer>(time: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    let milliseconds = time.unix_timestamp() * 1_000 + i64::from(time.millisecond());
    serializer.serialize_i64(milliseconds)
}
