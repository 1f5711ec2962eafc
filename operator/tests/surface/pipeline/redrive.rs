//! Having failed events delivered again.

use reqwest::{Response, StatusCode, header};
use sqlx::Executor as _;
use uuid::Uuid;

use super::{AuditRow, Console, DEAD, RETRY, dead, failed, is_refused, source};
use operator::{Authorized, Operator};
use sandbox::{
    fixture::{audit_events, source_database},
    rights::as_role,
};

use crate::console::Setup;

const STAFF: &str = "everything+pipeline+redrive";

/// The fields of the form of a page, as a browser would send them.
fn fields(html: &str) -> Vec<(String, String)> {
    let form = html
        .split("<form class=\"act\"")
        .nth(1)
        .unwrap_or_default()
        .split("</form>")
        .next()
        .unwrap_or_default();
    let hidden = form.split("<input type=\"hidden\"").skip(1);
    let attribute = |input: &str, name: &str| {
        let rest = input.split(&format!(" {name}=\"")).nth(1).unwrap_or_default();
        rest.split('"').next().unwrap_or_default().to_owned()
    };
    hidden.map(|input| (attribute(input, "name"), attribute(input, "value"))).collect()
}

async fn send(console: &Console, fields: &[(String, String)], why: &str) -> anyhow::Result<Response> {
    let mut body = url::form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(fields.iter().filter(|field| field.0 != "why")).append_pair("why", why);
    let request = console.client.post(format!("{}/pipeline/redrive", console.url));
    let request = request
        .header(header::COOKIE, format!("staff={}", console.staff))
        .header(header::ORIGIN, &console.url);
    Ok(request.body(body.finish()).send().await?)
}

/// States and how many, and entries of the log that are for one forwarder.
async fn state(console: &Console) -> anyhow::Result<(Vec<(String, i64)>, i64)> {
    let mut connection = source(console).connect().await?;
    let states = sqlx::query_as("select state, count(*) from outbox.failures group by state order by state")
        .fetch_all(&mut connection)
        .await?;
    let entries = sqlx::query_scalar("select count(*) from outbox.entries where forwarder = 'timeline'")
        .fetch_one(&mut connection)
        .await?;
    Ok((states, entries))
}

async fn acts(console: &Console) -> anyhow::Result<Vec<(i64, String, i64, String)>> {
    let acts =
        sqlx::query_as("select id, actor, count, reason from outbox.acts where kind = 'redrive' order by id");
    Ok(acts.fetch_all(&mut source(console).connect().await?).await?)
}

#[tokio::test]
async fn dead_letters_are_delivered_again_once_and_it_is_recorded() -> anyhow::Result<()> {
    let mut console = Console::beside_a_pipeline("", "audit_operator").await?;
    console.as_staff(STAFF);
    let rows: Vec<_> = (0..3).map(|_| AuditRow::sample("auth.refused")).collect();
    failed(source(&console), &rows, "refused", DEAD).await?;
    failed(source(&console), &[AuditRow::sample("auth.waiting")], "later", RETRY).await?;
    dead(source(&console), "billing.refused", "refused").await?;
    let gone = dead(source(&console), "auth.gone", "refused").await?;
    sqlx::query("delete from audit_events where id = $1")
        .bind(gone)
        .execute(&mut source(&console).connect().await?)
        .await?;
    let untouched = state(&console).await?;

    let path = "/pipeline/redrive?action=auth.*";
    let plan = console.json(path).await?;
    assert_eq!((&plan["matched"], &plan["left_as_they_are"]), (&3.into(), &0.into()), "{plan}");
    let plan = console.json("/pipeline/redrive?reason=schema_mismatch").await?;
    assert_eq!((&plan["matched"], &plan["left_as_they_are"]), (&5.into(), &1.into()), "{plan}");
    let html = console.page(path).await?;
    assert!(
        html.contains("Deliver 3 again") && html.contains("consumer failures redrive --action"),
        "{html}"
    );
    assert_eq!(state(&console).await?, untouched, "looking changes nothing");

    let form = fields(&html);
    let (first, second) =
        tokio::join!(send(&console, &form, "the rule is gone"), send(&console, &form, "the rule is gone"));
    let (first, second) = (first?, second?);
    assert_eq!((first.status(), second.status()), (StatusCode::SEE_OTHER, StatusCode::SEE_OTHER));
    let again = send(&console, &form, "the rule is gone").await?;
    let place = first.headers()[header::LOCATION].to_str()?.to_owned();
    assert_eq!(place, second.headers()[header::LOCATION].to_str()?);
    assert_eq!(place, again.headers()[header::LOCATION].to_str()?);
    let recorded = acts(&console).await?;
    assert_eq!(recorded.len(), 1, "{recorded:?}");
    let (id, actor, count, reason) = &recorded[0];
    assert_eq!(
        (*count, reason.as_str(), place.as_str()),
        (3, "the rule is gone", format!("../pipeline/act?id={id}").as_str())
    );
    assert_eq!(actor, "admin:everything through the operator surface as database role audit_decider");
    let (states, entries) = state(&console).await?;
    assert_eq!(states, [("dead".to_owned(), 2), ("queued".to_owned(), 3), ("retrying".to_owned(), 1)]);
    assert_eq!(entries, untouched.1 + 3);

    let html = console.page(place.trim_start_matches("..")).await?;
    for words in ["the rule is gone", "admin:everything", "action auth.*", ">3<"] {
        assert!(html.contains(words), "{words}: {html}");
    }
    assert!(console.page(path).await?.contains("Nothing would be delivered again"));
    assert!(console.page("/pipeline/failures").await?.contains("the rule is gone"));
    Ok(())
}

#[tokio::test]
async fn what_died_after_the_page_was_opened_is_not_taken_up() -> anyhow::Result<()> {
    let mut console = Console::beside_a_pipeline("", "audit_operator").await?;
    console.as_staff(STAFF);
    dead(source(&console), "test.before", "refused").await?;
    let form = fields(&console.page("/pipeline/redrive?forwarder=timeline").await?);
    dead(source(&console), "test.after", "refused").await?;
    assert_eq!(send(&console, &form, "repaired").await?.status(), StatusCode::SEE_OTHER);
    assert_eq!(state(&console).await?.0, [("dead".to_owned(), 1), ("queued".to_owned(), 1)]);
    Ok(())
}

#[tokio::test]
async fn no_more_than_a_thousand_are_delivered_again_at_a_time() -> anyhow::Result<()> {
    let mut console = Console::beside_a_pipeline("", "audit_operator").await?;
    console.as_staff(STAFF);
    let rows: Vec<_> = (0..1_003).map(|_| AuditRow::sample("test.refused")).collect();
    failed(source(&console), &rows, "refused", DEAD).await?;
    let html = console.page("/pipeline/redrive?forwarder=timeline").await?;
    assert!(html.contains("More than 1,000") && html.contains("Deliver 1,000 again"), "{html}");
    assert_eq!(send(&console, &fields(&html), "repaired").await?.status(), StatusCode::SEE_OTHER);
    assert_eq!(state(&console).await?.0, [("dead".to_owned(), 3), ("queued".to_owned(), 1_000)]);
    assert_eq!(acts(&console).await?[0].2, 1_000);
    Ok(())
}

#[tokio::test]
async fn nothing_is_delivered_again_that_cannot_be_recorded() -> anyhow::Result<()> {
    let mut console = Console::beside_a_pipeline("", "audit_operator").await?;
    console.as_staff(STAFF);
    dead(source(&console), "test.refused", "refused").await?;
    let form = fields(&console.page("/pipeline/redrive?forwarder=timeline").await?);
    let untouched = state(&console).await?;
    let mut owner = source(&console).connect().await?;
    owner
        .execute("revoke insert (actor, kind, filter, count, reason) on outbox.acts from audit_decider")
        .await?;
    let response = send(&console, &form, "repaired").await?;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.text().await?.contains("source_rights"));
    assert_eq!(state(&console).await?, untouched);
    Ok(())
}

#[tokio::test]
async fn what_is_not_said_in_full_is_refused_and_changes_nothing() -> anyhow::Result<()> {
    let mut console = Console::beside_a_pipeline("", "audit_operator").await?;
    console.as_staff(STAFF);
    dead(source(&console), "test.refused", "refused").await?;
    is_refused(&console, "/pipeline/redrive", StatusCode::BAD_REQUEST, "filter_empty").await?;
    is_refused(&console, "/pipeline/redrive?state=dead", StatusCode::BAD_REQUEST, "filter_empty").await?;
    is_refused(&console, "/pipeline/redrive?event=x&state=queued", StatusCode::BAD_REQUEST, "filter_value")
        .await?;
    let form = fields(&console.page("/pipeline/redrive?forwarder=timeline").await?);
    let untouched = state(&console).await?;
    let without = |name: &str| form.iter().filter(|field| field.0 != name).cloned().collect::<Vec<_>>();
    let with = |name: &str, value: &str| [without(name), vec![(name.to_owned(), value.to_owned())]].concat();
    for (fields, why, term) in [
        (form.clone(), "", "reason_missing"),
        (form.clone(), "  ", "reason_missing"),
        (form.clone(), &"x".repeat(501), "reason_missing"),
        (without("key"), "repaired", "form_incomplete"),
        (with("key", "7"), "repaired", "form_incomplete"),
        (without("as_of"), "repaired", "form_incomplete"),
        (with("as_of", "2999-01-01T00:00:00Z"), "repaired", "form_incomplete"),
        (without("forwarder"), "repaired", "filter_empty"),
        (with("state", "retrying"), "repaired", "filter_value"),
        (with("everything", "1"), "repaired", "unknown_filter"),
    ] {
        let response = send(&console, &fields, why).await?;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{fields:?}");
        let html = response.text().await?;
        assert!(html.contains(&format!("<code>{term}</code>")), "{term}: {html}");
    }
    // Without the capability, within a tenant, and from another site.
    for staff in ["everything+pipeline", "everything", "MINE+pipeline+redrive", ""] {
        console.as_staff(staff);
        let status = send(&console, &form, "repaired").await?.status();
        assert!(
            status == StatusCode::FORBIDDEN || status == StatusCode::SEE_OTHER && staff.is_empty(),
            "{staff}: {status}"
        );
    }
    console.as_staff(STAFF);
    let request = console
        .client
        .post(format!("{}/pipeline/redrive", console.url))
        .header(header::COOKIE, format!("staff={STAFF}"));
    let body = format!("forwarder=timeline&why=repaired&key={}&as_of=2026-01-01T00:00:00Z", Uuid::new_v4());
    let response = request.header(header::ORIGIN, "https://elsewhere.example").body(body).send().await?;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(state(&console).await?, untouched);
    assert!(acts(&console).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn without_a_connection_that_writes_the_command_is_shown() -> anyhow::Result<()> {
    let database = source_database().await?;
    let reading = as_role(&database.url, "audit_operator").parse()?;
    let build = |operator: Operator<Authorized>| operator.pipeline(reading, audit_events());
    let mut console = Setup::after("").await?.built(build).start().await?;
    console.source = Some(database);
    console.as_staff(STAFF);
    let id = dead(source(&console), "test.refused", "refused").await?;
    let html = console.page(&format!("/pipeline/redrive?event={id}")).await?;
    assert!(
        !html.contains("<form class=\"act\"")
            && html.contains(&format!("consumer failures redrive --id {id}")),
        "{html}"
    );
    let form = [
        ("event", id.to_string()),
        ("key", Uuid::new_v4().to_string()),
        ("as_of", "2026-01-01T00:00:00Z".to_owned()),
    ];
    let form: Vec<_> = form.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let response = send(&console, &form, "repaired").await?;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert!(response.text().await?.contains("redrive_off"));
    Ok(())
}
