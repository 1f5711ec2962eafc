//! The ways in which the Elixir library's audited transaction was called, and what ours does: the same, or something else on purpose.

use serde_json::{Map, Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use threadline::{Action, ActorRef, ActorType, AuditContext, AuditedError, AuditedTransaction, Status};

use super::audited::{Host, audited, insert};

/// What is left of a call.
#[derive(Debug, PartialEq)]
struct Left {
    /// `ok`, or the term of the error.
    outcome: String,
    /// Rows of posts, transactions and actions that were added.
    added: [i64; 3],
    /// Actor, meta, name, status, reason, verb, category, comment, correlation, request and job of the new transaction and its action.
    row: Value,
}

fn left(outcome: &str, added: [i64; 3], row: &Value) -> Left {
    Left { outcome: outcome.to_owned(), added, row: row.clone() }
}

fn user() -> ActorRef {
    ActorRef::new(ActorType::User, Some("u-1")).unwrap()
}

/// A row of a transaction without an action.
fn captured(meta: &Value) -> Value {
    json!([user().to_json(), meta, null, null, null, null, null, null, null, null, null])
}

/// A row of one with an action of nothing but a name.
fn named(name: &str, meta: &Value) -> Value {
    json!([user().to_json(), meta, name, "ok", null, null, null, null, null, null, null])
}

impl Host {
    async fn call<T, E: std::fmt::Display>(
        &mut self,
        transaction: AuditedTransaction,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
    ) -> anyhow::Result<Left> {
        let before = self.counts().await?;
        let outcome = match transaction.run(work).await {
            Ok(_) => "ok".to_owned(),
            Err(AuditedError::Work(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        self.left(outcome, before).await
    }

    /// The same in SQL: statements of one transaction.
    async fn sql(&mut self, statements: &str) -> anyhow::Result<Left> {
        let before = self.counts().await?;
        let mut transaction = self.connection.begin().await?;
        let ran = transaction.execute(AssertSqlSafe(statements.to_owned())).await;
        let outcome = match ran {
            Ok(_) => {
                transaction.commit().await?;
                "ok".to_owned()
            }
            Err(sqlx::Error::Database(error)) => {
                transaction.rollback().await?;
                error.message().to_owned()
            }
            Err(error) => return Err(error.into()),
        };
        self.left(outcome, before).await
    }

    async fn left(&mut self, outcome: String, before: [i64; 3]) -> anyhow::Result<Left> {
        let after = self.counts().await?;
        let added = [0, 1, 2].map(|n| after[n] - before[n]);
        let row = if added[1] == 0 { Value::Null } else { self.rows().await?.pop().unwrap_or_default() };
        Ok(Left { outcome, added, row })
    }

    fn by_user(&self) -> AuditedTransaction {
        self.timeline.transaction(user())
    }
}

async fn post(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("insert into posts select count(*), 'a' from posts returning id::int8")
        .fetch_one(connection)
        .await
}

async fn nothing(_: &mut PgConnection) -> Result<i32, sqlx::Error> {
    Ok(1)
}

#[tokio::test]
async fn an_audited_transaction_is_recorded_as_the_elixir_library_records_it() -> anyhow::Result<()> {
    let mut host = audited().await?;
    let meta = |value: Value| value.as_object().cloned().unwrap_or_default();
    let none = Value::Null;

    // An action, and a result that is a map.
    let context = AuditContext::of(user()).correlation_id("c1").request_id("r1").job_id("j1");
    let transaction = host.timeline.transaction(context).action(Action::new("post_created", user()));
    let ours = host.call(transaction.meta(meta(json!({"k": [1]}))), post).await?;
    let row =
        json!([user().to_json(), {"k": [1]}, "post_created", "ok", none, none, none, none, "c1", "r1", "j1"]);
    assert_eq!(ours, left("ok", [1, 1, 1], &row));

    // An action with options of its own.
    let action = Action::new("post.created", user()).status(Status::Error).reason("because").verb("created");
    let action = action.category("post").comment("note").correlation_id("inner");
    let transaction =
        host.timeline.transaction(AuditContext::of(user()).correlation_id("outer")).action(action);
    let ours = host.call(transaction, post).await?;
    let row = json!([
        user().to_json(),
        none,
        "post.created",
        "error",
        "because",
        "created",
        "post",
        "note",
        "inner",
        none,
        none
    ]);
    assert_eq!(ours, left("ok", [1, 1, 1], &row));

    // Actor and ids of the context.
    let context = AuditContext::of(user()).correlation_id("corr-ctx").request_id("req-ctx");
    let ours = host.call(host.timeline.transaction(context).action(Action::new("ctx", user())), post).await?;
    let row =
        json!([user().to_json(), none, "ctx", "ok", none, none, none, none, "corr-ctx", "req-ctx", none]);
    assert_eq!(ours, left("ok", [1, 1, 1], &row));

    // An option counts more than the context, null too.
    let begin = r#"select threadline_begin('{"actor": {"type": "user", "id": "u-1"}, "correlation_id": "corr-ctx", "request_id": "req-ctx"}');"#;
    let insert = "insert into posts select count(*), 'a' from posts;";
    let ours = host
        .sql(&format!(
            r#"{begin} {insert} select threadline_record_action('ctx', '{{"correlation_id": null}}')"#
        ))
        .await?;
    let row = json!([user().to_json(), none, "ctx", "ok", none, none, none, none, none, "req-ctx", none]);
    assert_eq!(ours, left("ok", [1, 1, 1], &row));

    // Capture only, with meta data.
    let ours = host.call(host.by_user().meta(meta(json!({"m": 1}))), post).await?;
    assert_eq!(ours, left("ok", [1, 1, 0], &captured(&json!({"m": 1}))));

    // A result that is a map, a list, or nothing: whatever it is, it comes back as it is, beside the id.
    let ours =
        host.call(host.by_user(), async |connection| post(connection).await.map(|n| json!({"a": n}))).await?;
    assert_eq!(ours, left("ok", [1, 1, 0], &captured(&none)));
    let ours =
        host.call(host.by_user(), async |connection| post(connection).await.map(|n| vec![n, 2])).await?;
    assert_eq!(ours, left("ok", [1, 1, 0], &captured(&none)));
    let ours = host.call(host.by_user(), async |connection| post(connection).await.map(drop)).await?;
    assert_eq!(ours, left("ok", [1, 1, 0], &captured(&none)));

    // A result that says ok.
    let ours = host.call(host.by_user().action(Action::new("ok_tuple", user())), post).await?;
    assert_eq!(ours, left("ok", [1, 1, 1], &named("ok_tuple", &none)));

    // An error without anything captured.
    let ours = host.call(host.by_user(), async |_| Err::<(), _>("x")).await?;
    assert_eq!(ours, left("x", [0, 0, 0], &none));

    // Nobody, with and without an action, and nobody where that is allowed.
    let ours = host.sql("select threadline_begin('{}')").await?;
    assert_eq!(ours, left("missing_actor", [0, 0, 0], &none));
    let nobody = r#"select threadline_begin('{"allow_missing_actor": true}');"#;
    let ours = host.sql(&format!("{nobody} select threadline_record_action('a')")).await?;
    assert_eq!(ours, left("missing_actor", [0, 0, 0], &none));
    let ours = host.call(host.timeline.transaction(AuditContext::without_actor()), post).await?;
    assert_eq!(
        ours,
        left("ok", [1, 1, 0], &json!([none, none, none, none, none, none, none, none, none, none, none]))
    );

    // Nothing captured: meta data has nothing to be linked to, and without any there is nothing to do.
    let ours = host.call(host.by_user().meta(Map::new()), nothing).await?;
    assert_eq!(ours, left("missing_audit_transaction_for_link", [0, 0, 0], &none));
    let ours = host.call(host.by_user(), nothing).await?;
    assert_eq!(ours, left("ok", [0, 0, 0], &none));

    // Rolled back by the work.
    let ours = host
        .call(host.by_user().action(Action::new("rb", user())), async |connection| {
            post(connection).await.map_err(|error| error.to_string())?;
            Err::<(), _>("custom".to_owned())
        })
        .await?;
    assert_eq!(ours, left("custom", [0, 0, 0], &none));

    // A status that there is not.
    let ours = host
        .sql(&format!(r#"{begin} {insert} select threadline_record_action('bad', '{{"status": "weird"}}')"#))
        .await?;
    assert_eq!(ours, left("invalid_status", [0, 0, 0], &none));

    // Meta data that is a list.
    let ours = host
        .sql(&format!("{begin} {insert} select threadline_record_action('a', '{{\"meta\": [1]}}')"))
        .await?;
    assert_eq!(ours, left("malformed_meta", [0, 0, 0], &none));
    Ok(())
}

/// The library raises the exception again after the roll-back; so does a panic go on.
#[tokio::test(flavor = "multi_thread")]
async fn work_that_panics_leaves_nothing_as_in_the_elixir_library() -> anyhow::Result<()> {
    let mut host = audited().await?;
    let transaction = host.by_user().action(Action::new("rs", user()));
    let panicked = tokio::spawn(transaction.run(async |connection| {
        insert(connection, 1).await?;
        std::hint::black_box(None::<()>).expect("boom");
        Ok::<_, sqlx::Error>(())
    }))
    .await;
    assert!(panicked.is_err_and(|error| error.is_panic()));
    assert_eq!(host.counts().await?, [0, 0, 0]);
    Ok(())
}

#[tokio::test]
async fn where_an_audited_transaction_differs_from_the_elixir_librarys_there_is_a_reason()
-> anyhow::Result<()> {
    let mut host = audited().await?;
    let none = Value::Null;
    let begin = r#"select threadline_begin('{"actor": {"type": "user", "id": "u-1"}}');"#;
    let insert = "insert into posts select count(*), 'a' from posts;";
    let failing = async |connection: &mut PgConnection| {
        post(connection).await.map_err(|error| error.to_string())?;
        Err::<(), _>("x".to_owned())
    };

    // The library commits, and says ok: an error is an error.
    let ours = host.call(host.by_user().action(Action::new("err_tuple", user())), failing).await?;
    assert_ne!(ours, left("ok", [1, 1, 1], &named("err_tuple", &none)));
    assert_eq!(ours, left("x", [0, 0, 0], &none));

    // The same where it captures only.
    let ours = host.call(host.by_user(), failing).await?;
    assert_ne!(ours, left("ok", [1, 1, 0], &captured(&none)));
    assert_eq!(ours, left("x", [0, 0, 0], &none));

    // The library overwrites meta data that is there with none: ours adds to it.
    let ours = host
        .call(host.by_user().action(Action::new("m", user())), async |connection| {
            post(connection).await?;
            connection.execute(r#"select threadline_link('{"k": 1}')"#).await
        })
        .await?;
    assert_ne!(ours, left("ok", [1, 1, 1], &named("m", &none)));
    assert_eq!(ours, left("ok", [1, 1, 1], &named("m", &json!({"k": 1}))));

    // The library refuses an action around what captures nothing: something was done all the same. `require_changes` refuses it.
    let ours = host.call(host.by_user().action(Action::new("nocap", user())), nothing).await?;
    assert_eq!(ours, left("ok", [0, 1, 1], &named("nocap", &none)));
    let ours =
        host.call(host.by_user().action(Action::new("nocap", user())).require_changes(), nothing).await?;
    assert_eq!(ours, left("missing_audit_transaction_for_link", [0, 0, 0], &none));

    // The library takes an action that is a string for none, and says nothing: here names are strings.
    let ours = host.call(host.by_user().action(Action::new("str", user())), post).await?;
    assert_ne!(ours, left("ok", [1, 1, 0], &captured(&none)));
    assert_eq!(ours, left("ok", [1, 1, 1], &named("str", &none)));

    // The library ignores an option that it does not know: a misspelt one would be lost.
    let ours = host
        .sql(&format!(r#"{begin} {insert} select threadline_record_action('a', '{{"nonsense": 1}}')"#))
        .await?;
    assert_eq!(ours, left("option_unknown", [0, 0, 0], &none));

    // The library raises for an actor that is a map: in SQL it is one.
    let ours = host.sql(&format!("{begin} {insert}")).await?;
    assert_eq!(ours, left("ok", [1, 1, 0], &captured(&none)));

    // The library writes both actions of a nested call, and links the outer one to the changes of the inner one.
    let timeline = host.timeline.clone();
    let ours = host
        .call(host.by_user().action(Action::new("outer", user())), async |connection| {
            post(connection).await.map_err(AuditedError::Work)?;
            timeline
                .transaction(user())
                .action(Action::new("inner", user()))
                .attach::<sqlx::Error>(connection)
                .await
                .map(drop)
        })
        .await?;
    assert_ne!(ours, left("ok", [1, 1, 2], &named("outer", &none)));
    assert_eq!(ours, left("nested_audited_transaction", [0, 0, 0], &none));
    Ok(())
}
