//! Whether the server would take values back, and show them as they were.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::{
    Refused,
    current::{self, Answer},
    draft::{Action, Draft, Field, Group, grouped},
    reason::Reason,
    target::Target,
    value,
};
use crate::query::Json;

/// The drafts without what the server would not.
pub(super) async fn restorable<'t>(
    snapshot: &mut PgConnection,
    mut drafts: Vec<Draft<'t>>,
    refused: &mut Vec<Refused>,
) -> Result<Vec<Draft<'t>>, sqlx::Error> {
    let asked: Vec<(&Target, &Json)> = drafts.iter().map(|draft| (draft.target, &draft.key)).collect();
    let mut shown: Vec<BTreeMap<String, Json>> = vec![BTreeMap::new(); drafts.len()];
    for Group { target, key, mut numbers } in grouped(&asked) {
        numbers.retain(|n| !matches!(drafts[*n].action, Action::Delete { .. }));
        let rows: Vec<(Json, String)> =
            numbers.iter().map(|n| (drafts[*n].key.clone(), drafts[*n].document())).collect();
        let answers = current::restored(snapshot, target, &key, &rows).await?;
        for (n, answer) in numbers.into_iter().zip(answers) {
            shown[n] = match answer {
                // One of them is to blame.
                Answer::Unreadable => one_by_one(snapshot, &drafts[n], &key).await?,
                answer => answer.members(),
            };
        }
    }
    for (draft, shown) in drafts.iter_mut().zip(&shown) {
        draft.retain(shown, refused);
    }
    drafts.retain(|draft| !matches!(&draft.action, Action::Update(fields) | Action::Insert(fields) if fields.is_empty()));
    Ok(drafts)
}

async fn one_by_one(
    snapshot: &mut PgConnection,
    draft: &Draft<'_>,
    key: &[String],
) -> Result<BTreeMap<String, Json>, sqlx::Error> {
    let fields = draft.fields();
    let rows: Vec<(Json, String)> = fields
        .iter()
        .map(|field| (draft.key.clone(), value::object(field.shown().into_iter()).get().to_owned()))
        .collect();
    let answers = current::restored(snapshot, draft.target, key, &rows).await?;
    let shown = |(field, answer): (&Field, Answer)| answer.members().remove_entry(&field.name);
    Ok(fields.iter().zip(answers).filter_map(shown).collect())
}

impl Draft<'_> {
    /// Without the fields that would not be shown as they were.
    fn retain(&mut self, shown: &BTreeMap<String, Json>, refused: &mut Vec<Refused>) {
        let (fields, is_whole) = match &mut self.action {
            Action::Update(fields) => (fields, false),
            Action::Insert(fields) => (fields, true),
            Action::Delete { .. } => return,
        };
        let all = fields.len();
        fields.retain(|field| {
            let is_same = field.shown().is_none_or(|(name, wanted)| {
                shown.get(name).is_some_and(|document| document.get() == wanted)
            });
            if !is_same {
                let reason = "the column would not take the value as it was: its type has changed, or its values cannot be read back";
                let mut row = Reason::new("unrestorable", reason).of(&self.target.name, &self.changes, &self.key);
                row.changes.reverse();
                refused.push(Refused { field: Some(field.name.clone()), ..row });
            }
            is_same
        });
        if is_whole && fields.len() < all {
            fields.clear();
        }
    }
}
