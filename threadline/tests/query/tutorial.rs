//! Pages that a newcomer follows, played from top to bottom: what they show is what happens.

mod page;

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::ensure;
use sandbox::{
    fixture::{TestDatabase, empty_database},
    process::{self, Process},
    wait,
    work_dir::WorkDir,
};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use time::OffsetDateTime;

use page::{Block, Names, blocks, commands};

const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn the_tutorial_shows_what_happens() -> anyhow::Result<()> {
    play_tutorial("docs/threadline-tutorial.md").await
}

#[tokio::test]
async fn the_tutorial_of_handing_over_shows_what_happens() -> anyhow::Result<()> {
    play_tutorial("docs/threadline-handover-tutorial.md").await
}

async fn play_tutorial(name: &str) -> anyhow::Result<()> {
    let page = Page::read(name, "# ")?;
    // What the fixture has done already.
    let begin = "createdb shop\nexport THREADLINE_DATABASE_URL=postgres://localhost/shop\n";
    let shell: Vec<&str> =
        page.blocks().iter().filter(|block| block.kind == "sh").map(|block| block.text).collect();
    assert_eq!(shell, [begin]);
    Player::begin().await?.play(&page).await
}

#[tokio::test]
async fn the_readme_shows_how_a_change_of_a_captured_table_is_read_back() -> anyhow::Result<()> {
    let page = Page::read("README.md", "### Capture changes of your own tables\n")?;
    let mut player = Player::begin().await?;
    let table = "create table users (id text primary key, suspended boolean not null); insert into users values ('u1', false)";
    player.connection.execute(table).await?;
    for block in page.blocks().iter().filter(|block| block.kind == "sh") {
        player.run(block.text)?;
    }
    player.play(&page).await
}

/// A part of a page.
struct Page {
    path: PathBuf,
    text: String,
    /// Where the part begins.
    from: usize,
}

impl Page {
    /// From its heading to the end.
    fn read(name: &str, heading: &str) -> anyhow::Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
        let text = std::fs::read_to_string(&path)?;
        let from = text.find(heading).unwrap_or_else(|| panic!("{name} has no {heading}"));
        Ok(Self { path, text, from })
    }

    fn blocks(&self) -> Vec<Block<'_>> {
        blocks(&self.text).into_iter().filter(|block| block.at.start >= self.from).collect()
    }
}

/// Somebody who follows a page.
struct Player {
    database: TestDatabase,
    connection: PgConnection,
    folder: WorkDir,
    names: Names,
    /// What runs in another terminal, and what it had shown at first.
    other: Option<(Process, String)>,
    /// When the last SQL was done.
    done_at: OffsetDateTime,
}

impl Player {
    async fn begin() -> anyhow::Result<Self> {
        let database = empty_database().await?;
        let connection = database.connect().await?;
        let (names, done_at) = (Names::default(), OffsetDateTime::UNIX_EPOCH);
        Ok(Self { database, connection, folder: WorkDir::create()?, names, other: None, done_at })
    }

    /// Compares each output with that of the page. `UPDATE_PAGES=1` writes the page instead; the difference is to be read then.
    async fn play(mut self, page: &Page) -> anyhow::Result<()> {
        let is_update = std::env::var_os("UPDATE_PAGES").is_some();
        let mut written = String::new();
        let mut end = 0;
        for block in page.blocks() {
            let text = match block.kind {
                "sql" => self.sql(block.text).await.map(|()| block.text.to_owned())?,
                "console" => self.console(block.text)?,
                "text" => self.other_terminal(block.text)?,
                _ => block.text.to_owned(),
            };
            if !is_update && text != block.text {
                let name = page.path.display();
                panic!(
                    "{name} shows\n{}and this is what happens; UPDATE_PAGES=1 writes it, and the difference is to be read:\n{text}",
                    block.text
                );
            }
            written += &page.text[end..block.at.start];
            written += &text;
            end = block.at.end;
        }
        written += &page.text[end..];
        assert!(self.other.is_none(), "the page says what the other terminal shows");
        if is_update {
            std::fs::write(&page.path, &written)?;
        }
        Ok(())
    }

    /// Runs SQL, in a later second than the SQL before it: commands show whole seconds, as somebody sees them who types.
    async fn sql(&mut self, sql: &str) -> anyhow::Result<()> {
        wait::until_some("the next second", DEADLINE, async || {
            let begun = "select date_trunc('second', clock_timestamp()) > $1";
            let has_begun: bool =
                sqlx::query_scalar(begun).bind(self.done_at).fetch_one(&mut self.connection).await?;
            Ok(has_begun.then_some(()))
        })
        .await?;
        self.connection.execute(AssertSqlSafe(sql)).await?;
        self.done_at = sqlx::query_scalar("select clock_timestamp()").fetch_one(&mut self.connection).await?;
        Ok(())
    }

    /// Runs the commands of a console; answers what it looks like then.
    fn console(&mut self, console: &str) -> anyhow::Result<String> {
        let mut shown = String::new();
        for (command, output) in commands(console) {
            let run = self.names.of_run(command)?;
            let ours = match run.strip_prefix("threadline tail -f ") {
                Some(arguments) => self.follow(arguments, &output)?,
                None => self.run(&run)?,
            };
            shown.extend(["$ ", command, "\n", &self.names.of_page(&output, &ours)]);
        }
        Ok(shown)
    }

    /// As a shell runs it, with both outputs as a terminal shows them.
    fn run(&self, command: &str) -> anyhow::Result<String> {
        let binary = Path::new(env!("CARGO_BIN_EXE_threadline")).parent().unwrap();
        let path = format!("{}:{}", binary.display(), std::env::var("PATH")?);
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("exec 2>&1\n{command}")])
            .current_dir(self.folder.path())
            .env("PATH", path)
            .env("SOURCE_DATABASE_URL", &self.database.url)
            .env("THREADLINE_DATABASE_URL", &self.database.url)
            .env_remove("AUDIT_CONFIG");
        let ended = process::complete(&mut shell)?;
        let output = String::from_utf8(ended.stdout)?;
        ensure!(ended.status.success(), "{command}: {}\n{output}", ended.status);
        Ok(output)
    }

    /// Starts what follows the timeline in another terminal, and waits until it has shown as many lines as the page.
    fn follow(&mut self, arguments: &str, output: &str) -> anyhow::Result<String> {
        assert!(
            self.other.is_none() && !output.is_empty(),
            "one other terminal at a time, which shows that it has begun"
        );
        let arguments: Vec<&str> = ["tail", "-f"].into_iter().chain(arguments.split(' ')).collect();
        let url = [("THREADLINE_DATABASE_URL", self.database.url.as_str())];
        let process = Process::start(&self.folder, "tail", "threadline", &arguments, &url)?;
        let shown = wait_for_lines(&process, output.lines().count())?;
        self.other = Some((process, shown.clone()));
        Ok(shown)
    }

    /// What the other terminal shows in addition, which ends well then, and says how to go on.
    fn other_terminal(&mut self, text: &str) -> anyhow::Result<String> {
        let (mut process, before) = self.other.take().expect("something that runs in another terminal");
        wait_for_lines(&process, before.lines().count() + text.lines().count())?;
        let status = process.interrupt(DEADLINE)?;
        let log = process.log();
        ensure!(status.success(), "tail: {status}\n{log}");
        let ours = log.strip_prefix(&before).expect("what was shown stays");
        let (ours, last) = ours.split_at(ours.trim_end().rfind('\n').map_or(0, |end| end + 1));
        assert!(last.starts_with("to go on: threadline tail ") && last.contains(" --position "), "{last}");
        Ok(self.names.of_page(text, ours))
    }
}

fn wait_for_lines(process: &Process, count: usize) -> anyhow::Result<String> {
    let mut log = String::new();
    let waited = wait::until("lines of the other terminal", DEADLINE, || {
        log = process.log();
        log.matches('\n').count() >= count
    });
    ensure!(waited.is_ok(), "the other terminal shows no {count} lines, but:\n{log}");
    Ok(log)
}
