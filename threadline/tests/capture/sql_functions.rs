//! Audited transactions, from whoever can call a function.

use anyhow::Context as _;
use sandbox::{fixture::shared, rights::as_superuser, work_dir::WorkDir};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::{
    audited::{Host, audited},
    capture, host,
};

/// Statements in a transaction of a role that may execute the three functions, and has no right on any table of the timeline.
struct Application(PgConnection);

impl Application {
    async fn new(host: &Host) -> anyhow::Result<Self> {
        let role = format!("application_{}", uuid::Uuid::new_v4().simple());
        let mut connection = host.database.superuser().await?;
        let statement = format!(
            "create role {role}; grant insert on posts to {role};
             grant execute on function threadline_begin(jsonb), threadline_record_action(text, jsonb), threadline_link(jsonb) to {role};
             set role {role}"
        );
        connection.execute(AssertSqlSafe(statement)).await?;
        Ok(Self(connection))
    }

    async fn run(&mut self, statements: &'static str) -> Result<(), sqlx::Error> {
        let mut transaction = self.0.begin().await?;
        transaction.execute(statements).await?;
        transaction.commit().await
    }
}

#[tokio::test]
async fn a_host_in_any_language_says_the_same_in_sql() -> anyhow::Result<()> {
    let mut host = audited().await?;
    Application::new(&host).await?.run(
        r#"select threadline_begin('{"actor": {"type": "user", "id": "u-1"}, "request_id": "r1", "tenant": 7}');
           select threadline_record_action('post_created', '{"reason": "because"}');
           insert into posts values (1, 'a');
           select threadline_link('{"k": 1}'); select threadline_link('{"l": 2}')"#,
    )
    .await?;
    let none = Value::Null;
    assert_eq!(
        host.rows().await?,
        [
            json!([{"id": "u-1", "type": "user"}, {"k": 1, "l": 2}, "post_created", "ok", "because", none, none, none, none, "r1", none])
        ]
    );
    let context: Value =
        sqlx::query_scalar("select context from audit_transactions").fetch_one(&mut host.connection).await?;
    assert_eq!(context, json!({"tenant": 7}));
    Ok(())
}

/// The statements of docs/threadline-capture.md, as a host of any language sends them.
#[tokio::test]
async fn the_statements_of_the_page_run_in_psql_and_link_what_they_change() -> anyhow::Result<()> {
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/threadline-capture.md"))?;
    let block =
        page.split("```sql\n").find(|block| block.contains("select threadline_begin(")).context("a block")?;
    let block = block.split("```").next().context("its end")?;
    let (database, mut connection) = host("create table users (id int primary key, suspended bool)").await?;
    capture(&mut connection, &[("users", json!({}))]).await?;
    connection.execute("insert into users values (7, false)").await?;
    let role = format!("app_{}", database.name());
    let script = format!(
        "\\set ON_ERROR_STOP on\ncreate role {role};\n{}",
        block.replace(" to app;", &format!(" to {role};"))
    );
    let work_dir = WorkDir::create()?;
    let file = work_dir.path().join("page.sql");
    std::fs::write(&file, script)?;
    let (status, said) = shared().postgres.psql(&as_superuser(&database.url), &file)?;
    assert_eq!(status, Some(0), "{said}");
    let row: Value = sqlx::query_scalar(
        "select jsonb_build_array(t.actor_ref ->> 'id', t.source, t.request_id, t.correlation_id, t.context, t.meta, a.name, a.reason,
                                  a.correlation_id, c.op, c.changed_fields)
         from audit_transactions t join audit_actions a on a.id = t.action_id join audit_changes c on c.transaction_id = t.id",
    )
    .fetch_one(&mut connection)
    .await?;
    let expected = json!(["u1", "web", "r1", "c1", {"tenant": 7}, {"ticket": 4711}, "user.suspended", "fraud", "c1", "update",
                          ["suspended"]]);
    assert_eq!(row, expected);
    Ok(())
}

#[tokio::test]
async fn what_is_malformed_in_sql_is_refused_with_a_term_and_a_class_of_its_own() -> anyhow::Result<()> {
    let mut host = audited().await?;
    let mut application = Application::new(&host).await?;
    let table = [
        ("select threadline_begin('{}')", "TL001", "missing_actor"),
        ("select threadline_begin(null)", "TL004", "malformed_context"),
        ("select threadline_begin('[]')", "TL004", "malformed_context"),
        (r#"select threadline_begin('{"actor": "u"}')"#, "TL004", "invalid_actor_ref_map"),
        (r#"select threadline_begin('{"actor": {"id": "u"}}')"#, "TL004", "invalid_actor_ref_map"),
        (r#"select threadline_begin('{"actor": {"type": "user"}}')"#, "TL004", "missing_actor_id"),
        (r#"select threadline_begin('{"actor": {"type": "user", "id": 7}}')"#, "TL004", "missing_actor_id"),
        (
            r#"select threadline_begin('{"actor": {"type": "robot", "id": "7"}}')"#,
            "TL004",
            "unknown_actor_type",
        ),
        ("select threadline_record_action('a')", "TL001", "missing_actor"),
        (
            r#"select threadline_record_action('', '{"actor": {"type": "anonymous"}}')"#,
            "TL004",
            "missing_name",
        ),
        (
            r#"select threadline_record_action('a', '{"actors": {"type": "anonymous"}}')"#,
            "TL004",
            "option_unknown",
        ),
        (
            r#"select threadline_record_action('a', '{"actor": {"type": "anonymous"}, "status": "weird"}')"#,
            "TL004",
            "invalid_status",
        ),
        (
            r#"select threadline_record_action('a', '{"actor": {"type": "anonymous"}, "require_changes": true}')"#,
            "TL003",
            "missing_audit_transaction_for_link",
        ),
        ("select threadline_link('{}')", "TL003", "missing_audit_transaction_for_link"),
        ("select threadline_link('[1]')", "TL004", "malformed_meta"),
        (
            r#"select threadline_record_action('a', '{"actor": {"type": "anonymous"}, "meta": [1]}')"#,
            "TL004",
            "malformed_meta",
        ),
        (
            r#"select threadline_begin('{"actor": {"type": "anonymous"}}'); select threadline_begin('{"allow_missing_actor": true}')"#,
            "TL002",
            "nested_audited_transaction",
        ),
    ];
    for (statements, code, term) in table {
        let error = application.run(statements).await.expect_err(statements);
        let error = error
            .as_database_error()
            .expect("the server's")
            .downcast_ref::<sqlx::postgres::PgDatabaseError>();
        assert_eq!((error.code(), error.message()), (code, term), "{statements}");
    }
    assert_eq!(host.counts().await?, [0, 0, 0]);
    Ok(())
}

#[tokio::test]
async fn the_functions_are_for_those_alone_to_whom_the_owner_grants_them() -> anyhow::Result<()> {
    let mut host = audited().await?;
    let open: Vec<String> = sqlx::query_scalar(
        "select p.proname::text from pg_proc p where p.proname like 'threadline\\_%' and p.proname <> 'threadline_capture_changes'
         and has_function_privilege('public', p.oid, 'execute')",
    )
    .fetch_all(&mut host.connection)
    .await?;
    assert_eq!(open, Vec::<String>::new());
    Ok(())
}
