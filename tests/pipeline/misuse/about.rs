//! What binaries say of themselves, and on what.

use std::{fs, process::Command};

use end_to_end::Pipeline;
use sandbox::process;
use serde_json::Value;

use super::{
    mistakes::{ALL, SERVICES},
    output,
};

#[tokio::test]
async fn a_version_has_the_commit_and_the_features_that_the_binary_was_built_with() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    fs::write(pipeline.path("mistake.toml"), "[broken")?;
    for (binary, feature) in [("publisher", "failpoints"), ("consumer", "webhook"), ("threadline", "cli")] {
        let short = format!("{binary} {}\n", env!("CARGO_PKG_VERSION"));
        let output = |flag| {
            let output = output(binary, &[flag], &pipeline, &[]);
            assert!(output.status.success() && output.stderr.is_empty(), "{binary}");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        assert_eq!(output("-V"), short);
        let long = output("--version");
        let lines: Vec<&str> = long.strip_prefix(&short).unwrap_or_default().lines().collect();
        let [commit, features] = lines[..] else { panic!("{long}") };
        assert!(commit.strip_prefix("commit: ").is_some_and(|commit| !commit.is_empty()), "{long}");
        let features: Vec<&str> =
            features.strip_prefix("features: ").unwrap_or_default().split(", ").collect();
        assert!(features.contains(&feature) && features.is_sorted(), "{long}");
        assert!(!features.contains(&"default"), "{long}");
    }
    Ok(())
}

#[tokio::test]
async fn help_is_grouped_and_has_colours_where_a_terminal_is_or_is_said_to_be() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    fs::write(pipeline.path("mistake.toml"), "")?;
    for (binary, arguments, heading) in [
        ("publisher", &["--help"][..], "Capture:\n  attach "),
        ("consumer", &["-h"], "Timeline:\n  reconcile "),
        ("publisher", &["backfill", "--help"], "Which rows:\n      --since "),
        ("consumer", &["reconcile", "--help"], "What is done about it:\n      --repair\n"),
        ("consumer", &["help", "rebuild"], "Instead of building and swapping:\n      --no-swap\n"),
        ("consumer", &["replay", "--help"], "How they are replayed:\n      --overwrite\n"),
        ("threadline", &["gen-triggers", "--help"], "What is captured:\n      --tables "),
    ] {
        let said = |variables: &[(&str, &str)]| {
            let output = output(binary, arguments, &pipeline, variables);
            assert!(output.status.success(), "{binary} {arguments:?}");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let plain = said(&[]);
        assert!(plain.contains(heading) && !plain.contains('\x1b'), "{plain}");
        let coloured = said(&[("CLICOLOR_FORCE", "1")]);
        assert!(coloured.contains("\x1b["), "{coloured}");
        assert_eq!(said(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]), plain);
    }
    Ok(())
}

/// What a program says of itself needs neither settings nor servers, and works beside settings that cannot be used.
#[tokio::test]
async fn binaries_describe_themselves_without_settings() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    fs::write(pipeline.path("mistake.toml"), "[broken")?;
    let said = |binary: &str, arguments: &[&str]| {
        let output = output(binary, arguments, &pipeline, &[]);
        assert!(
            output.status.success(),
            "{binary} {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for binary in ALL {
        for (arguments, words) in [
            (&["completions", "bash"][..], "complete -F"),
            (&["completions", "zsh"], "#compdef"),
            (&["man"], ".TH"),
            (&["--help"], "Exit status: 0 done"),
        ] {
            let said = said(binary, arguments);
            assert!(said.contains(words), "{binary} {arguments:?}: {said}");
        }
        let pages = pipeline.path(&format!("{binary}-pages"));
        fs::create_dir(&pages)?;
        said(binary, &["man", &pages.display().to_string()]);
        assert!(pages.join(format!("{binary}.1")).exists() && fs::read_dir(&pages)?.count() > 3, "{binary}");
    }
    for binary in SERVICES {
        assert!(said(binary, &["config", "init"]).contains("#page_rows = 1000"), "{binary}");
        let file = pipeline.path(&format!("{binary}.toml"));
        let path = file.display().to_string();
        let init = ["config", "init", &path];
        assert!(output(binary, &init, &pipeline, &[]).status.success());
        let again = output(binary, &init, &pipeline, &[]);
        let said = String::from_utf8_lossy(&again.stderr);
        assert!(again.status.code() == Some(2) && said.contains("is not overwritten"), "{said}");
        let valid = output(binary, &["config", "check", "--json", "--config", &path], &pipeline, &[]);
        assert!(valid.status.success(), "{}", String::from_utf8_lossy(&valid.stderr));
        assert_eq!(serde_json::from_slice::<Value>(&valid.stdout)?["valid"], true);
        let printed = output(binary, &["config", "print", "--json", "--config", &path], &pipeline, &[]);
        assert!(
            serde_json::from_slice::<Value>(&printed.stdout)?.as_array().is_some_and(|keys| keys.len() > 30)
        );
    }
    Ok(())
}

/// A full disk behind `>` is an error, and a reader that has seen enough is none worth a word.
#[tokio::test]
async fn an_answer_that_cannot_be_written_is_an_error() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    fs::write(pipeline.path("mistake.toml"), "")?;
    for (binary, command) in [
        ("publisher", "config print"),
        ("consumer", "config print"),
        ("threadline", "install"),
        ("sandbox", "load --transactions 0 --url $SOURCE_DATABASE_URL"),
    ] {
        let program = process::locate(binary)?;
        for (arguments, redirected, words) in [
            (command, ">/dev/full", Some("cannot write to standard output")),
            (command, "| (exec <&-; sleep 1)", None),
            ("--help", ">/dev/full", Some("cannot write to standard output")),
            ("--version", ">/dev/full", Some("cannot write to standard output")),
        ] {
            let line = match words {
                Some(_) => format!("{} {arguments} {redirected}", program.display()),
                None => format!("{{ {} {arguments}; echo status $? >&2; }} {redirected}", program.display()),
            };
            let mut shell = Command::new("sh");
            shell
                .args(["-c", &line])
                .env("SOURCE_DATABASE_URL", &pipeline.source.url)
                .env("THREADLINE_DATABASE_URL", &pipeline.timeline.url)
                .env("AUDIT_CONFIG", pipeline.path("mistake.toml"));
            let output = process::complete(&mut shell)?;
            let said = String::from_utf8_lossy(&output.stderr);
            match words {
                Some(words) => {
                    assert!(output.status.code() == Some(1) && said.contains(words), "{line}: {said}");
                }
                None => assert!(!said.contains("error") && !said.contains("panicked"), "{line}: {said}"),
            }
        }
    }
    Ok(())
}
