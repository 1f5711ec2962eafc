//! A row that no document can hold. A cast stands in for 256 MiB: it fails as `to_jsonb` does then.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _};

use super::{both_levels, capture, changes, host};

/// The cast fails when the row is converted to `jsonb`, and not when it is to `json`.
const TABLE: &str = "
    create type mood as enum ('ok');
    create sequence calls;
    create function mood_json(mood) returns json language plpgsql as $$
    begin
        if nextval('public.calls') % 2 = 1 then
            raise exception 'total size of jsonb object elements exceeds the maximum' using errcode = '54000';
        end if;
        return '\"ok\"';
    end $$;
    create cast (mood as json) with function mood_json(mood);
    create table a (id int primary key, feeling mood, large text, small text);
    alter table a alter large set storage external";

#[tokio::test]
async fn a_row_whose_image_is_too_large_is_written_and_recorded_without_its_large_values()
-> anyhow::Result<()> {
    for policy in both_levels() {
        let (_database, mut connection) = host(TABLE).await?;
        capture(&mut connection, &[("a", policy)]).await?;
        for statement in [
            "insert into a values (1, 'ok', repeat('x', 200000), 's')",
            "update a set large = large || 'y'",
            "update a set small = 't'",
            "insert into a values (2, null, 'x', 's'), (3, 'ok', repeat('x', 200000), 's')",
            "update a set small = 'u'",
            "delete from a where id = 1",
        ] {
            connection.execute(AssertSqlSafe(statement.to_owned())).await?;
        }
        let rows = changes(&mut connection).await?;
        assert_eq!(rows.len(), 1 + 1 + 1 + 2 + 3 + 1);
        let large = &rows[0]["data_after"]["large"]["threadline.too_large"];
        assert_eq!(large["bytes"], json!(200_002), "as a text in JSON");
        assert_eq!(large["sha256"].as_str().map(str::len), Some(64));
        assert_eq!(
            rows[0]["data_after"],
            json!({"id": 1, "feeling": "ok", "large": {"threadline.too_large": large}, "small": "s"})
        );
        assert_eq!(rows[1]["changed_fields"], json!(["large"]));
        assert_eq!(rows[1]["changed_from"]["large"]["threadline.too_large"], *large);
        assert_eq!(
            (&rows[2]["table_pk"], &rows[2]["changed_fields"]),
            (&json!({"id": "1"}), &json!(["small"]))
        );
        assert_eq!(rows[8]["op"], json!("delete"));
    }
    Ok(())
}

#[tokio::test]
async fn of_a_row_that_cannot_be_converted_at_all_the_size_is_recorded() -> anyhow::Result<()> {
    for mut policy in both_levels() {
        let (_database, mut connection) = host(TABLE).await?;
        // Only odd calls are left: every conversion fails.
        connection.execute("alter sequence calls increment 2").await?;
        policy["mask"] = json!(["small"]);
        capture(&mut connection, &[("a", policy)]).await?;
        connection.execute("insert into a values (1, 'ok', repeat('x', 200000), 'RAW')").await?;
        let rows = changes(&mut connection).await?;
        let image = rows[0]["data_after"].as_object().unwrap();
        assert_eq!(image.keys().collect::<Vec<_>>(), ["threadline.too_large"]);
        assert_ne!(image["threadline.too_large"], Value::Null);
        assert_eq!(rows[0]["table_pk"], json!({}));
    }
    Ok(())
}
