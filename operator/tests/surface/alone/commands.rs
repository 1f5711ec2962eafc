//! Its command line.

use sandbox::process;

use super::shared;

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<(Option<i32>, String)> {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--set", "log.format=human"]).collect();
    let (status, said) = process::run("threadline-serve", &arguments, environment, shared().work_dir.path())?;
    Ok((status.code(), said))
}

const DATABASE: [(&str, &str); 1] = [("THREADLINE_DATABASE_URL", "postgres://127.0.0.1:1/nowhere")];

#[test]
fn settings_that_would_let_everybody_in_or_nobody_are_refused_with_the_remedy() -> anyhow::Result<()> {
    for (arguments, part) in [
        (&[][..], "operator.auth.kind is not set, and without it nobody may see anything"),
        (
            &["--set", "operator.auth.kind=none", "--set", "operator.listen=0.0.0.0:0"],
            "lets in everybody who reaches 0.0.0.0:0",
        ),
        (&["--set", "operator.auth.kind=password"], "operator.auth.kind from --set"),
        (&["--set", "operator.auth.kind=signed"], "operator.auth.signed.keys_file"),
        (
            &["--set", "operator.auth.kind=signed", "--set", "operator.auth.signed.keys_file=/nowhere"],
            "operator.auth.signed.keys_file: cannot read /nowhere",
        ),
        (
            &["--set", "operator.auth.kind=none", "--set", "operator.trusted_origins=[\"audit.example\"]"],
            "operator.trusted_origins: \"audit.example\" is no origin",
        ),
        (
            &["--set", "operator.auth.kind=none", "--set", "operator.writer_url=postgres://u:p@h/d"],
            "would show a secret in process lists",
        ),
    ] {
        // What `config check` refuses, a start refuses in the same words.
        for command in [&[][..], &["config", "check"]] {
            let arguments = [command, arguments].concat();
            let (status, said) = run(&arguments, &DATABASE)?;
            assert_eq!(status, Some(2), "{arguments:?}: {said}");
            assert!(said.contains(part), "{arguments:?}: {said}");
        }
    }
    let (status, said) = run(&["--set", "operator.auth.kind=none"], &[])?;
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("threadline.url (THREADLINE_DATABASE_URL) is not set"), "{said}");
    Ok(())
}

#[test]
fn what_settings_say_of_tables_is_refused_where_it_cannot_be_used() -> anyhow::Result<()> {
    let file = shared().work_dir.path().join("of-tables.toml");
    for (section, part) in [
        ("[coverage]\nexpect = [\"posts\"]", "[coverage]: unknown field `expect`"),
        ("[capture.tables.posts]\nmasks = [\"secret\"]", "masks"),
        ("[retention]\nkeep_days = -1", "[retention]"),
    ] {
        std::fs::write(&file, format!("[operator]\nauth.kind = \"none\"\n{section}\n"))?;
        for command in [&[][..], &["config", "check"]] {
            let arguments = [command, &["--config", file.to_str().unwrap()]].concat();
            let (status, said) = run(&arguments, &DATABASE)?;
            assert!(status == Some(2) && said.contains(part), "{section}: {status:?}: {said}");
        }
    }
    Ok(())
}

#[test]
fn help_teaches_and_settings_can_be_checked_without_a_server() -> anyhow::Result<()> {
    let (status, help) = run(&["--help"], &[])?;
    assert_eq!(status, Some(0));
    for part in
        ["threadline-serve --set operator.auth.kind=none", "docs/operator-hosts.md", "audit_reader", "config"]
    {
        assert!(help.contains(part), "{part}: {help}");
    }
    let (status, said) = run(&["config", "check", "--set", "operator.auth.kind=none"], &DATABASE)?;
    assert_eq!((status, said.as_str()), (Some(0), "the settings are valid\n"));
    let (status, said) = run(&["--version"], &[])?;
    assert!(status == Some(0) && said.starts_with("threadline-serve "), "{said}");
    Ok(())
}
