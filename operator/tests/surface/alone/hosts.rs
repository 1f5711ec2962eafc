//! Hosts in other languages that the documentation has, for the process.

use std::{fs, process::Command};

use sandbox::process;
use serde_json::Value;
use uuid::Uuid;

use super::{
    Alone, shared,
    signed::{PAGE, SECRET, alone},
};

/// An application of Rails, as far as the proxy of the documentation needs one.
const RAILS: &str = include_str!("rails.rb");

/// Sends a request, and prints status, headers and body: of a stream its beginning.
const ASK: &str = include_str!("ask.rb");

/// The first block of code of the documentation in this language, with what it needs around it.
fn code(language: &str) -> &'static str {
    let block = PAGE.split(&format!("```{language}\n")).nth(1).and_then(|rest| rest.split("```").next());
    block.unwrap_or_else(|| panic!("the documentation has no {language}"))
}

/// What the Rack application of the documentation answers to each of these calls of `ask`.
fn in_ruby(alone: &Alone, calls: &str) -> anyhow::Result<Vec<Value>> {
    let upstream = format!("\"{}\"", alone.url.trim_end_matches('/'));
    let proxy = code("ruby").replace("\"http://127.0.0.1:4180\"", &upstream);
    anyhow::ensure!(proxy.contains(&upstream), "it names another upstream: {proxy}");
    let script = format!("SECRET = {:?}\n{RAILS}{proxy}{ASK}{calls}", format!("k1 {SECRET}"));
    let file = shared().work_dir.path().join(format!("host_{}.rb", Uuid::new_v4().simple()));
    fs::write(&file, script)?;
    let output = process::complete(Command::new("ruby").arg(&file))?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{said}");
    let answers = String::from_utf8(output.stdout)?;
    Ok(answers.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rack_application_of_the_documentation_passes_on_pages_forms_and_streams() -> anyhow::Result<()> {
    let alone = alone().await?;
    let answers = in_ruby(
        &alone,
        r#"
        ask(anna, "/timeline?kind=change&size=5")
        ask(User.new("a2", "Bo", "nobody"), "/timeline?kind=change&size=5")
        ask(User.new("a3", "Cy", nil), "/timeline")
        ask(nil, "/timeline")
        ask(anna, "/preferences", method: "POST", input: "theme=dark&zone=Asia%2FTokyo&density=dense", "HTTP_ORIGIN" => "http://audit.example")
        ask(anna, "/timeline", method: "HEAD")
        ask(anna, "/timeline/tail")
        ask(anna, "/row?table=public.posts&key=%7B%22id%22%3A%20%221%22%7D")
        "#,
    )?;
    let answer = |place: usize| {
        let answer = &answers[place];
        (answer["status"].as_u64().unwrap(), answer["text"].as_str().unwrap())
    };
    let (status, own) = answer(0);
    assert!(status == 200 && own.contains("data-id=") && own.contains("Anna Ønskov"), "{own}");
    let (status, others) = answer(1);
    assert!(status == 200 && !others.contains("data-id=") && others.contains("limited view"), "{others}");
    assert_eq!(answer(2), (403, "You belong to no organisation."));
    assert_eq!(answer(3), (403, "Log in first."));
    assert_eq!(answer(4).0, 303, "{}", answers[4]);
    let cookies = answers[4]["headers"]["set-cookie"].as_str().unwrap();
    assert_eq!(cookies.lines().count(), 3, "{cookies}");
    assert_eq!(answer(5), (200, ""));
    let (status, begun) = answer(6);
    assert!(status == 200 && begun.contains("event: begin"), "{begun}");
    assert!([200, 400, 404].contains(&answer(7).0) && !answer(7).1.contains("denied"), "{}", answers[7]);
    Ok(())
}

/// What the plug of the documentation needs.
const PLUG: &str = include_str!("plug.exs");

#[expect(clippy::print_stderr, reason = "whoever lacks a language is to know what was not looked at")]
#[tokio::test]
async fn what_the_plug_of_the_documentation_signs_is_accepted() -> anyhow::Result<()> {
    if Command::new("elixir").arg("--version").output().is_err() {
        eprintln!("elixir is not installed: what the plug of docs/operator-hosts.md signs is not looked at");
        return Ok(());
    }
    let alone = alone().await?;
    let call = format!(
        "Application.put_env(:my_app, :threadline_secret, {{\"k1\", {SECRET:?}}})\n\
         user = %{{id: \"a1\", name: \"Anna Ønskov\", organization_id: \"t1\"}}\n\
         conn = %{{assigns: %{{current_user: user}}, method: \"GET\", path_info: [\"timeline\"], query_string: \"table=posts\", req_headers: []}}\n\
         MyAppWeb.AuditPlug.call(conn, MyAppWeb.AuditPlug.init([]))\n"
    );
    let file = shared().work_dir.path().join(format!("host_{}.exs", Uuid::new_v4().simple()));
    fs::write(&file, [PLUG, code("elixir"), &call].concat())?;
    let output = process::complete(Command::new("elixir").env("LC_ALL", "C.UTF-8").arg(&file))?;
    let (said, complaints) =
        (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success() && !complaints.contains("warning"), "{complaints}");
    let (request, grant) = said.trim().rsplit_once(' ').unwrap();
    assert_eq!(request, "GET http://127.0.0.1:4180/timeline?table=posts");
    let response = alone.get("timeline?table=posts", &[("x-threadline-grant", grant)]).await?;
    let html = response.error_for_status()?.text().await?;
    assert!(html.contains("Anna Ønskov") && html.contains("limited view"), "{html}");
    Ok(())
}
