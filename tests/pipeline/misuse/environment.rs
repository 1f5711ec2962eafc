//! What a shell says for `psql`.

use std::{fs, os::unix::fs::PermissionsExt as _};

use end_to_end::Pipeline;
use sandbox::{
    postgres::Postgres,
    work_dir::{WorkDir, free_port},
};
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::output;

#[tokio::test]
async fn neither_a_password_nor_a_database_of_the_environment_counts_for_any_binary() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    fs::write(pipeline.path("mistake.toml"), "")?;
    let work_dir = WorkDir::create()?;
    let access = work_dir.path().join("access.conf");
    fs::write(&access, "host all app 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n")?;
    let server = Postgres::start_with(&work_dir, false, &format!("hba_file = '{}'\n", access.display()))?;
    let mut owner = PgConnection::connect(&server.url("postgres")).await?;
    owner.execute("create role app superuser login password 'right'").await?;
    owner.execute("create database app owner app").await?;
    let address = server.url("").replace("postgres://postgres@", "");
    let address = address.trim_end_matches('/');
    let passwords = pipeline.path("passwords");
    fs::write(&passwords, "*:*:*:*:right\n")?;
    fs::set_permissions(&passwords, fs::Permissions::from_mode(0o600))?;
    fs::copy(&passwords, pipeline.path(".pgpass"))?;
    let file = passwords.display().to_string();
    let home = passwords.parent().unwrap_or(&passwords).display().to_string();

    for (binary, arguments) in [
        ("publisher", &["attach"][..]),
        ("publisher", &["run"]),
        ("consumer", &["failures", "list"]),
        ("threadline", &["install"]),
    ] {
        for (user, variables, says) in [
            ("app:right", &[("PGDATABASE", "postgres")][..], None),
            ("app", &[("PGPASSWORD", "right")], Some("password authentication failed")),
            ("app", &[("PGPASSFILE", file.as_str())], Some("password authentication failed")),
            ("app", &[("HOME", home.as_str())], Some("password authentication failed")),
        ] {
            // A service without a table ends at once, as it does where it is not let in.
            if says.is_none() && binary != "threadline" {
                continue;
            }
            let url = format!("postgres://{user}@{address}");
            let mut given = variables.to_vec();
            given.extend([("SOURCE_DATABASE_URL", url.as_str()), ("THREADLINE_DATABASE_URL", url.as_str())]);
            let output = output(binary, arguments, &pipeline, &given);
            let said = String::from_utf8_lossy(&output.stderr);
            let about = format!("{binary} {arguments:?} {variables:?}: {said}");
            match says {
                Some(says) => {
                    assert!(output.status.code() == Some(1) && said.contains(says), "{about}");
                    assert!(said.contains("database app at"), "{about}");
                }
                None => assert!(output.status.success(), "{about}"),
            }
        }
    }
    let installed = "select count(*) from pg_class where relname = 'audit_actions'";
    let elsewhere: i64 = sqlx::query_scalar(installed).fetch_one(&mut owner).await?;
    assert_eq!(elsewhere, 0, "the database is that of the user, and not PGDATABASE");
    Ok(())
}

#[tokio::test]
async fn the_variable_of_a_key_precedes_the_well_known_one_and_both_precede_the_file_in_every_binary()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let port = free_port()?;
    let url = |database: &str| format!("postgres://app@127.0.0.1:{port}/{database}");
    let file = format!("[source]\nurl = {0:?}\n[threadline]\nurl = {0:?}\n", url("third"));
    fs::write(pipeline.path("mistake.toml"), file)?;
    for (binary, arguments, key, well_known) in [
        ("publisher", &["attach"][..], "AUDIT__SOURCE__URL", "SOURCE_DATABASE_URL"),
        ("consumer", &["failures", "list"], "AUDIT__SOURCE__URL", "SOURCE_DATABASE_URL"),
        ("threadline", &["install"], "AUDIT__THREADLINE__URL", "THREADLINE_DATABASE_URL"),
    ] {
        for (first, second, counts) in [
            (url("first"), url("second"), "first"),
            (String::new(), url("second"), "second"),
            (String::new(), String::new(), "third"),
        ] {
            let output = output(binary, arguments, &pipeline, &[(key, &first), (well_known, &second)]);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains(&format!("database {counts} at")), "{binary} {first:?} {second:?}: {said}");
        }
    }
    Ok(())
}
