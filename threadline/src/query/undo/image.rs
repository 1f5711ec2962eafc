//! Rows as they were stored.

use std::collections::BTreeMap;

use crate::query::{Json, canonical};

/// A value as it was stored.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) document: Json,
    /// Of a null in a column of documents, whether it is SQL's. Values before an update do not say it.
    pub(super) is_sql_null: Option<bool>,
}

/// A row as it was stored. A field without a value was changed, and what it was is not known.
pub(super) type Image = BTreeMap<String, Option<Held>>;

/// An image, with the names of its nulls that are SQL's.
pub(super) fn image(document: Option<&Json>, nulls: Option<&[String]>) -> Option<Image> {
    let members = canonical::members(document?);
    let held = |(name, document): (String, Json)| {
        let is_sql_null = Some(nulls.is_some_and(|nulls| nulls.contains(&name)));
        (name, Some(Held { document, is_sql_null }))
    };
    Some(members.into_iter().map(held).collect())
}
