//! Settings and arguments that cannot be used: every binary ends with a status that no supervisor answers with a restart, and
//! `config check` says beforehand what `run` would say.

mod about;
mod environment;
mod mistakes;

use std::process::{Command, Output};

use end_to_end::{DEADLINE, Pipeline, sandbox};
use sandbox::{process, wait, work_dir::free_port};
use serde_json::Value;

use mistakes::{ALL, MISTAKES, Mistake, SERVICES};

fn output(binary: &str, arguments: &[&str], pipeline: &Pipeline, variables: &[(&str, &str)]) -> Output {
    // What is not refused runs for ever.
    let mut command = Command::new("timeout");
    command
        .arg("30")
        .arg(process::locate(binary).unwrap())
        .args(arguments)
        .env_clear()
        .env("SOURCE_DATABASE_URL", &pipeline.source.url)
        .env("THREADLINE_DATABASE_URL", &pipeline.timeline.url)
        .env("NATS_URL", &pipeline.nats_url)
        .env("AUDIT_CONFIG", pipeline.path("mistake.toml"))
        .envs(variables.iter().copied())
        .current_dir(sandbox().work_dir.path());
    process::complete(&mut command).unwrap()
}

#[tokio::test]
async fn whatever_is_wrong_with_settings_every_binary_ends_with_status_2_and_config_check_agrees()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let (mut tried, mut wrong) = (0, Vec::new());
    for Mistake { file, variables, arguments, binaries, says } in MISTAKES {
        std::fs::write(pipeline.path("mistake.toml"), file)?;
        for binary in *binaries {
            let commands: &[&[&str]] =
                if *binary == "threadline" { &[&["install"]] } else { &[&["run"], &["config", "check"]] };
            for command in commands {
                let arguments: Vec<&str> = command.iter().chain(*arguments).copied().collect();
                let output = output(binary, &arguments, &pipeline, variables);
                let said = String::from_utf8_lossy(&output.stderr);
                let about = format!("{binary} {arguments:?} {file:?} {variables:?}: {said}");
                let right = output.status.code() == Some(2)
                    && said.replace("\\\"", "\"").contains(says)
                    && !said.contains("hunter2")
                    && output.stdout.is_empty();
                if !right {
                    wrong.push(about);
                }
                tried += 1;
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {tried}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(tried > 120, "{tried}");
    Ok(())
}

#[tokio::test]
async fn arguments_that_do_not_fit_the_settings_end_with_status_2_and_servers_that_are_away_with_1()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    std::fs::write(pipeline.path("mistake.toml"), "")?;
    for (binary, arguments, status) in [
        ("publisher", &["backfill", "--forwarder", "nobody"][..], 2),
        ("publisher", &["backfill", "--since", "yesterday"], 2),
        ("publisher", &["drop-reader", "jetstream", "--reason", "why"], 2),
        ("consumer", &["drop-durable", "timeline", "--reason", "why"], 2),
        ("consumer", &["reconcile", "--forwarder", "nobody"], 2),
        ("consumer", &["rebuild", "--forwarder", "nobody"], 2),
        ("consumer", &["receipts", "list", "--forwarder", "nobody"], 2),
        ("consumer", &["replay", "--forwarder", "nobody", "--from-start"], 2),
        ("consumer", &["failures", "redrive"], 2),
        ("consumer", &["failures", "discard", "--reason", "why"], 2),
        // Empty values.
        ("publisher", &["backfill", "--action", ""], 2),
        ("publisher", &["drop-reader", "", "--reason", "why"], 2),
        ("publisher", &["drop-reader", "a", "--reason", ""], 2),
        ("consumer", &["drop-durable", "a", "--reason", ""], 2),
        ("consumer", &["reconcile", "--repair", "--remove-extra", ""], 2),
        ("consumer", &["failures", "list", "--id", ""], 2),
        ("consumer", &["failures", "list", "--reason-code", ""], 2),
        ("consumer", &["failures", "list", "--action", ""], 2),
        ("consumer", &["failures", "list", "--forwarder", ""], 2),
        ("consumer", &["failures", "show", ""], 2),
        ("consumer", &["failures", "discard", "--all", "--reason", ""], 2),
        ("consumer", &["receipts", "verify", "--anchor", ""], 2),
        ("threadline", &["gen-triggers", "--tables", "", "--dry-run"], 2),
        ("threadline", &["gen-triggers", "--tables", "a", "--level", "", "--dry-run"], 2),
        ("threadline", &["gen-triggers", "--tables", "a", "--exclude", "", "--dry-run"], 2),
        ("threadline", &["gen-triggers", "--tables", "a", "--mask", "", "--dry-run"], 2),
        ("threadline", &["gen-triggers", "--tables", "a", "--except-columns", "", "--dry-run"], 2),
        ("threadline", &["install", "--schema", ""], 2),
        // What is no public key, whether there are receipts or not.
        ("consumer", &["receipts", "verify", "--key", ""], 2),
        ("consumer", &["receipts", "verify", "--key", "nonsense"], 2),
        // Ranges that nothing can be in.
        ("publisher", &["backfill", "--since", "2026-01-31", "--until", "2026-01-30"], 2),
        ("publisher", &["backfill", "--since", "1h", "--until", "2h", "--dry-run"], 2),
        ("consumer", &["reconcile", "--since", "2026-01-31", "--until", "2026-01-31"], 2),
        ("consumer", &["reconcile", "--since", "1h", "--until", "2h"], 2),
        ("consumer", &["reconcile", "--since", "1h", "--until", "2h", "--seal"], 2),
        ("consumer", &["failures", "list", "--since", "1h", "--until", "2h"], 2),
        ("consumer", &["failures", "redrive", "--since", "2h", "--until", "2h"], 2),
        ("consumer", &["failures", "discard", "--since", "1h", "--until", "2h", "--reason", "why"], 2),
        ("consumer", &["replay", "--forwarder", "timeline", "--from-sequence", "0"], 2),
        ("consumer", &["replay", "--forwarder", "timeline", "--from-start", "--until-sequence", "0"], 2),
        (
            "consumer",
            &["replay", "--forwarder", "timeline", "--from-sequence", "5", "--until-sequence", "4"],
            2,
        ),
        ("consumer", &["replay", "--forwarder", "timeline", "--from-sequence", "7"], 2),
        ("consumer", &["replay", "--forwarder", "timeline", "--from-time", "2126-01-01"], 2),
    ] {
        let output = output(binary, arguments, &pipeline, &[]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{binary} {arguments:?}: {said}");
    }
    // Another server's port.
    let elsewhere = format!("postgres://app@{}/prod", end_to_end::address(&pipeline.nats_url)?);
    for (binary, arguments) in [("publisher", &["attach"]), ("threadline", &["install"])] {
        let variables =
            [("SOURCE_DATABASE_URL", elsewhere.as_str()), ("THREADLINE_DATABASE_URL", elsewhere.as_str())];
        let output = output(binary, arguments, &pipeline, &variables);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains("no PostgreSQL server"), "{said}");
        assert!(!said.contains("sqlx") && !said.contains("::"), "{said}");
    }
    let nowhere = format!("postgres://app:hunter2@127.0.0.1:{}/prod", free_port()?);
    for (binary, arguments) in [
        ("publisher", &["run"][..]),
        ("publisher", &["status"]),
        ("consumer", &["run"]),
        ("consumer", &["failures", "list"]),
        ("threadline", &["install"]),
    ] {
        let variables =
            [("SOURCE_DATABASE_URL", nowhere.as_str()), ("THREADLINE_DATABASE_URL", nowhere.as_str())];
        let output = output(binary, arguments, &pipeline, &variables);
        // A status shows what is away among the rest.
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{binary} {arguments:?}: {said}");
        assert!(said.contains("database prod at 127.0.0.1:") && !said.contains("hunter2"), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn empty_variables_mean_none_for_every_binary() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    std::fs::write(pipeline.path("mistake.toml"), "")?;
    let empty = [
        ("AUDIT_CONFIG", ""),
        ("AUDIT__THREADLINE__SCHEMA", ""),
        ("AUDIT__THREADLINE__URL", ""),
        ("AUDIT__SOURCE__URL", ""),
        ("AUDIT__CONSUMER__WORKERS", " "),
        ("AUDIT__FORWARDER__0__SECRET", ""),
    ];
    for (binary, arguments) in [
        ("publisher", &["config", "check"][..]),
        ("consumer", &["config", "check"]),
        ("threadline", &["install"]),
    ] {
        let output = output(binary, arguments, &pipeline, &empty);
        assert!(output.status.success(), "{binary}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

#[tokio::test]
async fn a_kind_of_another_binary_is_skipped_where_that_is_said() -> anyhow::Result<()> {
    let pipeline = Pipeline::with_settings("[[forwarder]]\nid = \"a\"\nkind = \"faulty\"").await?;
    let (done, said) = pipeline.command("consumer", &["config", "check"])?;
    assert!(!done && said.contains("there is no kind \"faulty\""), "{said}");
    let (done, said) = pipeline.command("consumer", &["config", "check", "--allow-missing-kinds"])?;
    assert!(done, "{said}");
    let mut consumer = pipeline.consumer_with(&["--allow-missing-kinds"])?;
    wait::until("it to start", DEADLINE, || consumer.log().contains("nothing to do"))?;
    assert!(consumer.terminate(DEADLINE)?.success());
    Ok(())
}

#[tokio::test]
async fn a_refusal_is_one_line_of_json_where_that_is_asked_for_and_text_with_its_remedy_otherwise()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let other = "[[forwarder]]\nid = \"a\"\nkind = \"threadline\"\n[[forwarder]]\nid = \"b\"\nkind = \"threadline\"\n";
    for (file, arguments, status) in [
        ("[log]\nformat = \"json\"\n[publisher]\nmax_in_flight = 0", &["status"][..], 2),
        ("[log]\nformat = \"json\"\n[consumer]\nwrokers = 1", &["run"], 2),
        (&format!("{other}[log]\nformat = \"json\""), &["run"], 2),
        (&format!("{other}[log]\nformat = \"json\""), &["reconcile"], 2),
    ] {
        std::fs::write(pipeline.path("mistake.toml"), file)?;
        let output = output("consumer", arguments, &pipeline, &[]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{said}");
        for line in said.lines() {
            serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        }
        let last: Value = serde_json::from_str(said.lines().last().unwrap_or_default())?;
        assert_eq!((&last["level"], &last["exit_status"]), (&"ERROR".into(), &status.into()), "{last}");
        assert!(last["message"].is_string() && last["timestamp"].is_string(), "{last}");
    }
    for (file, url, status) in [
        ("[log]\nformat = \"json\"\n[threadline]\nschema = \"a-b\"", "postgres://127.0.0.1:9/nowhere", 2),
        ("[log]\nformat = \"json\"\n[threadline]\nschme = \"a\"", "postgres://127.0.0.1:9/nowhere", 2),
        ("[log]\nformat = \"json\"", "postgres://127.0.0.1:9/nowhere", 1),
        ("", "postgres://127.0.0.1:9/nowhere", 1),
    ] {
        std::fs::write(pipeline.path("mistake.toml"), file)?;
        let output = output("threadline", &["install"], &pipeline, &[("THREADLINE_DATABASE_URL", url)]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{said}");
        if file.is_empty() {
            assert!(said.starts_with("error: "), "{said}");
            continue;
        }
        let line: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
        assert_eq!((&line["level"], &line["exit_status"]), (&"ERROR".into(), &status.into()), "{line}");
        assert!(line["message"].is_string() && line["timestamp"].is_string(), "{line}");
    }
    std::fs::write(pipeline.path("mistake.toml"), "[[forwarder]]\nid = \"a\"\nkind = \"nope\"")?;
    let output = output("consumer", &["run"], &pipeline, &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.lines().any(|line| line.starts_with("error: ")), "{said}");
    Ok(())
}

/// Before any settings are read.
#[tokio::test]
async fn what_is_wrong_with_a_command_line_is_one_line_of_json_where_that_is_asked_for() -> anyhow::Result<()>
{
    let pipeline = Pipeline::new().await?;
    let json = pipeline.path("json.toml").display().to_string();
    std::fs::write(&json, "[log]\nformat = \"json\"\n")?;
    std::fs::write(pipeline.path("broken.toml"), "[broken")?;
    std::fs::write(pipeline.path("mistake.toml"), "")?;
    let broken = pipeline.path("broken.toml").display().to_string();
    let variable = [("AUDIT__LOG__FORMAT", "json")];
    for (binaries, arguments, variables, says) in [
        (ALL, &["--colour"][..], &variable[..], "unexpected argument '--colour' found"),
        (ALL, &[], &variable, "names no subcommand"),
        (SERVICES, &["drop"], &variable, "unrecognized subcommand 'drop'"),
        (&["publisher"], &["drop-reader", "a"], &variable, "--reason <TEXT>"),
        (SERVICES, &["status", "--set", "consumer.workers"], &variable, "expected KEY=VALUE"),
        (SERVICES, &["status", "--config", "/nowhere/audit.toml"], &variable, "/nowhere/audit.toml"),
        (&["threadline"], &["install", "--config", "/nowhere/audit.toml"], &variable, "/nowhere/audit.toml"),
        (SERVICES, &["config", "check", "--config", &broken], &variable, "not valid TOML"),
        (&["threadline"], &["install", "--config", &broken], &variable, "unclosed table"),
        (SERVICES, &["config", "init", &json], &variable, "is not overwritten"),
        (ALL, &["man", "/nowhere/pages"], &variable, "man pages into /nowhere/pages: No such file"),
        // As far as a file or a flag says so.
        (ALL, &["--config", &json, "--colour"], &[], "unexpected argument"),
        (SERVICES, &["--set=log.format=json", "--colour"], &[], "unexpected argument"),
        (SERVICES, &["status", "--set", "log.format=json", "--set", "a"], &[], "expected KEY=VALUE"),
    ] {
        for binary in binaries {
            let output = output(binary, arguments, &pipeline, variables);
            let said = String::from_utf8_lossy(&output.stderr);
            let about = format!("{binary} {arguments:?}: {said}");
            assert!(output.status.code() == Some(2) && output.stdout.is_empty(), "{about}");
            let line: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {about}"));
            assert!(said.lines().count() == 1 && line["exit_status"] == 2, "{about}");
            let message = line["message"].as_str().unwrap_or_default();
            assert!(message.contains(says) && !message.contains("Usage"), "{about}");
        }
    }
    for binary in ALL {
        let asked = output(binary, &["--help"], &pipeline, &variable);
        assert!(asked.status.success() && String::from_utf8_lossy(&asked.stdout).contains("Usage: "));
        let wrong = output(binary, &["--colour"], &pipeline, &[]);
        assert!(String::from_utf8_lossy(&wrong.stderr).starts_with("error: unexpected argument"));
    }
    Ok(())
}
