//! Times in which capture of a table was switched off: what happened then is in no change.

use serde::Serialize;
use serde_json::json;
use sqlx::Row as _;
use time::OffsetDateTime;
use uuid::Uuid;

use super::marks::{DISABLED, ENABLED};
use crate::{
    capture::HostTable,
    query::{ReadError, Reader, Reading, Statement, clamped_time, serialize},
};

/// Times that capture was switched off or on that are looked at, the newest.
const SWITCHES_MAX: i64 = 200;

/// A time in which a table was not captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// From when on; none where that is not known any more.
    #[serde(serialize_with = "serialize::optional_time")]
    pub from: Option<OffsetDateTime>,
    /// Up to when; none where it is not captured now.
    #[serde(serialize_with = "serialize::optional_time")]
    pub to: Option<OffsetDateTime>,
    /// The action that stands for switching it off; only for who sees everything.
    pub action: Option<Uuid>,
    /// Why; the same.
    pub reason: Option<String>,
}

/// When capture of a table was switched off by `threadline capture disable`, the latest first. That there is a gap belongs to no tenant, and
/// is said within every scope: without it, an empty answer would mislead.
///
/// # Errors
/// What the database says.
pub async fn gaps(reader: &Reader, table: &HostTable) -> Result<Vec<Gap>, ReadError> {
    let beginning = json!({"table": table.to_string()}).to_string();
    let mut statement = Statement::new(format!(
        "select a.id, a.name, {}, a.reason from {} a where a.name = any (",
        clamped_time("a.inserted_at"),
        reader.schema().table("audit_actions")
    ));
    statement
        .bind(vec![DISABLED.to_owned(), ENABLED.to_owned()])
        .push("::text[]) and starts_with(a.comment, ")
        .bind(format!("{},", beginning.trim_end_matches('}')))
        .push(") order by a.inserted_at desc, a.id desc limit ")
        .bind(SWITCHES_MAX);
    let rows = Reading::begin(reader, None).await?.fetch_all(&statement).await?;
    let may_see = reader.scope().is_everything();
    let (mut gaps, mut to, mut is_on) = (Vec::new(), None, false);
    for row in &rows {
        let (name, at): (String, Option<OffsetDateTime>) = (row.try_get(1)?, row.try_get(2)?);
        if name == ENABLED {
            (to, is_on) = (at, true);
            continue;
        }
        let reason: Option<String> = row.try_get(3)?;
        gaps.push(Gap {
            from: at,
            to: to.take(),
            action: may_see.then_some(row.try_get(0)?),
            reason: reason.filter(|_| may_see),
        });
        is_on = false;
    }
    // It was switched on, and when it was switched off is not kept any more.
    if is_on {
        gaps.push(Gap { from: None, to, action: None, reason: None });
    }
    Ok(gaps)
}
