//! The demo, as somebody plays with it.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
};

use end_to_end::{DEADLINE, sandbox};
use sandbox::{
    process::{self, Process},
    wait,
};
use sqlx::{Connection as _, PgConnection};

#[tokio::test(flavor = "multi_thread")]
async fn the_tour_that_a_demo_left_running_ends_in_can_be_followed() -> anyhow::Result<()> {
    let arguments = ["demo", "--transactions", "100", "--rate", "100", "--keep"];
    let mut demo = Process::start(&sandbox().work_dir, "demo", "sandbox", &arguments, &[])?;
    let begin = "# Everything keeps running until Ctrl-C here.";
    wait::until("the tour", DEADLINE, || {
        demo.log().split_once(begin).is_some_and(|(_, tour)| tour.contains("consumer reconcile\n"))
    })?;
    let log = demo.log();
    let (_, tour) = log.split_once(begin).unwrap();
    // What is started in it ends with it; everything else it does as it is printed.
    let script = format!("set -eu\n#{tour}\nkill $!\n");
    let outcome = process::complete(Command::new("sh").args(["-c", &script]))?;
    let said = [outcome.stdout, outcome.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(outcome.status.success(), "{said:?}\n{script}");
    let [said, _] = said;
    for part in
        ["capture ", "settled up to", "it has arrived", "audit row   demo.tour", "INSERT 0 1", ": equal"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    let url = tour.lines().find_map(|line| line.strip_prefix("export THREADLINE_DATABASE_URL='")).unwrap();
    let mut timeline = PgConnection::connect(url.trim_end_matches('\'')).await?;
    let arrived = "select count(*) from audit_actions where name = 'demo.tour'";
    assert!(sqlx::query_scalar::<_, i64>(arrived).fetch_one(&mut timeline).await? >= 1);
    // The pages show what was inserted.
    let pages = tour.lines().find_map(|line| line.strip_prefix("# What people see in a browser: ")).unwrap();
    let address = pages.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "GET /timeline?action=demo.tour HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("demo.tour"), "{answer}");
    assert!(demo.terminate(DEADLINE)?.success(), "{}", demo.log());
    Ok(())
}
