//! Having failed events delivered again: first what it would reach, then doing it. Nothing is changed but that they are on their way
//! again, and what arrives twice has the effect of arriving once.

use common::{
    failures::{
        FailureState,
        admin::{self, FailureSummary, Filter},
    },
    outbox::admin::standing,
    process::operator_log::{self, ActionKind, OperatorAction},
    session::Session,
    time_arg::to_rfc3339,
};
use maud::{Markup, html};
use serde_json::json;
use threadline::query::{Instant, Window};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    failures,
    parts::{self, more},
    which::Which,
};
use crate::{
    answer::Answer,
    asked::{Answered, Asked},
    failure::Failure,
    source,
    view::{View, empty},
};

/// Events that one request has delivered again.
const REDRIVEN_MAX: i64 = 1_000;

/// Characters of a reason.
const REASON_MAX: usize = 500;

/// What would be reached.
pub(crate) async fn page(asked: Asked) -> Answered {
    let which = wanted(Which::read(&asked.query, &[], asked.now)?)?;
    let source = asked.source()?;
    let mut session = source.read().await?;
    let read = async {
        // What dies again meanwhile is not taken up a second time.
        let as_of = admin::now(&mut session).await?;
        let filter = until(&which.filter, as_of);
        let groups = admin::summary(&mut session, &source.table, &filter, Some(REDRIVEN_MAX + 1)).await?;
        Ok((as_of, groups, deliverable(&mut session).await?))
    };
    let (as_of, groups, forwarders) = read.await.map_err(source::failure)?;
    let (matched, left) = reached(&groups, &forwarders);
    let data = json!({"matched": matched, "left_as_they_are": left, "groups": groups, "at_most": REDRIVEN_MAX, "as_of": to_rfc3339(as_of)});
    asked.answer("Deliver again", &data, |view| html! {
        @if matched == 0 {
            (empty("Nothing would be delivered again", &html! { "No dead letter fits: it was delivered meanwhile, or waits already. " a href=(view.links.to("pipeline/failures")) { "All failures" } }))
        } @else {
            p { strong { @if matched > REDRIVEN_MAX { "More than " (more(REDRIVEN_MAX, i64::MAX)) } @else { (more(matched, i64::MAX)) } } " fit. " @if matched > REDRIVEN_MAX { "At a time " (more(REDRIVEN_MAX, i64::MAX)) " are delivered again, those that failed first before the others: repeat it for the rest, or use the command." } }
            (failures::groups(view, &groups))
            @if left > 0 { p { (more(left, REDRIVEN_MAX)) " of these stay as they are: the audit row is gone, or no process has the forwarder." } }
            @if source.can_redrive() { (form(view, &which, as_of, matched - left)) } @else { p { "Nothing can be done from here: this surface has no connection that may write to the source." } }
        }
        p { (parts::command(&which.command("redrive"))) }
    })
}

/// Does it, once for each key of a form.
pub(crate) async fn run(asked: Asked) -> Answered {
    let which = wanted(Which::read(&asked.form, &["as_of", "key", "why"], asked.now)?)?;
    let asks = |text: &str| Failure::unusable("form_incomplete", text.to_owned());
    let key: Uuid = asked
        .form
        .get("key")
        .and_then(|key| key.parse().ok())
        .ok_or(asks("This form is no longer complete: open it again."))?;
    let as_of = asked.form.get("as_of").and_then(|at| at.parse::<Instant>().ok());
    let as_of = as_of.and_then(|at| Window::Between { from: Some(at), to: None }.ends(asked.now).0);
    let as_of = as_of.ok_or(asks("This form is no longer complete: open it again."))?;
    let why = asked.form.get("why").map(str::trim).unwrap_or_default();
    if why.is_empty() || why.chars().count() > REASON_MAX {
        return Err(Failure::unusable(
            "reason_missing",
            format!("Say why, in 1 to {REASON_MAX} characters: it is recorded with what is done."),
        ));
    }
    let source = asked.source()?;
    let Some(mut session) = source.write().await? else {
        return Err(Failure::unusable(
            "redrive_off",
            format!(
                "This surface has no connection that may write to the source: `{}`.",
                which.command("redrive")
            ),
        ));
    };
    let now = admin::now(&mut session).await.map_err(source::failure)?;
    if as_of > now {
        return Err(asks("This form is of a time that has not come: open it again."));
    }
    let filter = until(&which.filter, as_of);
    let request = format!("request {key}");
    let act = OperatorAction {
        actor: &format!("{} through the operator surface", asked.grant.actor()),
        kind: ActionKind::Redrive,
        filter: &format!("{filter}, {request}"),
        count: 0,
        reason: Some(why),
    };
    let done = async {
        let mut transaction = session.begin().await?;
        // First what is done, then doing it: neither is there without the other.
        let Some(id) = operator_log::record_once(&mut transaction, &act).await? else {
            let earlier = operator_log::latest(&mut transaction, Some(&request), 1).await?;
            return Ok(earlier.first().map(|act| act.id));
        };
        let forwarders = deliverable(&mut transaction).await?;
        let count =
            admin::redrive(&mut transaction, &source.table, &filter, &forwarders, REDRIVEN_MAX).await?;
        operator_log::extend(&mut transaction, id, count).await?;
        transaction.commit().await?;
        tracing::info!(actor = act.actor, filter = act.filter, count, "failed events are delivered again");
        Ok(Some(id))
    };
    let id = done.await.map_err(source::failure)?.ok_or(Failure::Broken)?;
    Ok(Answer::Redirect {
        link: asked.links.with("pipeline/act", &[("id", &id.to_string())]),
        cookies: Vec::new(),
    })
}

/// Dead ones, where nothing else is asked for; never everything.
fn wanted(mut which: Which) -> Result<Which, Failure> {
    if which.filter.is_empty() {
        return Err(Failure::unusable(
            "filter_empty",
            "Without a filter every dead letter would be reached: say which, by forwarder, reason, action, time or event.",
        ));
    }
    match which.filter.states[..] {
        [] => which.filter.states = vec![FailureState::Dead],
        [FailureState::Dead | FailureState::Discarded] => {}
        _ => {
            return Err(Failure::unusable(
                "filter_value",
                "Only what is dead or discarded can be delivered again: everything else is on its way already.",
            ));
        }
    }
    Ok(which)
}

/// What had failed by then.
fn until(filter: &Filter, as_of: OffsetDateTime) -> Filter {
    Filter { until: Some(filter.until.map_or(as_of, |until| until.min(as_of))), ..filter.clone() }
}

/// The forwarders that some process has.
async fn deliverable(session: &mut Session) -> Result<Vec<String>, sqlx::Error> {
    let known = standing::forwarders(session).await?;
    Ok(known.into_iter().filter(|known| !known.is_dropped).map(|known| known.forwarder).collect())
}

/// How many fit, and how many of these would only die again.
fn reached(groups: &[FailureSummary], forwarders: &[String]) -> (i64, i64) {
    let left =
        |group: &FailureSummary| if forwarders.contains(&group.forwarder) { group.gone } else { group.count };
    (groups.iter().map(|group| group.count).sum(), groups.iter().map(left).sum())
}

fn form(view: &View<'_>, which: &Which, as_of: OffsetDateTime, reached: i64) -> Markup {
    html! {
        form.act action=(view.links.to("pipeline/redrive")) method="post" {
            input type="hidden" name="form" value="1";
            @for (name, value) in which.frozen() { input type="hidden" name=(name) value=(value); }
            input type="hidden" name="as_of" value=(to_rfc3339(as_of));
            input type="hidden" name="key" value=(Uuid::new_v4());
            label for="why" { "Why (recorded with what is done)" }
            input #why name="why" required maxlength=(REASON_MAX) autocomplete="off";
            button { "Deliver " @if reached > REDRIVEN_MAX { (more(REDRIVEN_MAX, i64::MAX)) } @else { (more(reached, i64::MAX)) } " again" }
        }
    }
}
