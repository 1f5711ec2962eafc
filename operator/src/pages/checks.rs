//! Everything that a timeline in production rests on, as `threadline doctor` looks at it.

use maud::{Markup, html};
use serde_json::json;
use threadline::{
    ActorRef,
    doctor::{self, Item, Remedy, Report, Section, State},
};

use crate::{
    asked::{Answered, Asked},
    failure::Failure,
    view::{amount::to_run, command, text},
};

/// Checks of what settings say.
const OF_SETTINGS: [&str; 5] =
    ["capture.tables", "capture.undecided", "redaction.drift", "retention.tables", "brownfield.readiness"];

pub(crate) async fn page(asked: Asked) -> Answered {
    let reading = asked.shared.checks.observe(asked.now, asked.fresh(), read(&asked)).await?;
    let report = &reading.value;
    let data = json!({
        "looked_at": threadline::query::time_text(reading.at),
        "stale": reading.failure.as_ref().map(Failure::text),
        "items": report.items,
    });
    let mut sections: Vec<(Section, Vec<&Item>)> = Vec::new();
    for item in &report.items {
        match sections.iter_mut().find(|(section, _)| *section == item.section) {
            Some((_, items)) => items.push(item),
            None => sections.push((item.section, vec![item])),
        }
    }
    asked.answer("Checks", &data, |view| html! {
        p {
            @for state in State::ALL { (shown(state)) " " (report.count(state)) " " }
        }
        (view.read(&reading))
        @for (section, items) in &sections {
            section {
                h2 { (section.title()) }
                table.list {
                    caption.visually-hidden { (section.title()) }
                    thead { tr { th scope="col" { "What is expected" } th scope="col" { "State" } th scope="col" { "What was seen" } th scope="col" { "What to do" } } }
                    tbody { @for item in items { tr {
                        th scope="row" { (item.expectation) }
                        td data-name="State" { (shown(item.state)) }
                        td data-name="What was seen" { (text::cut(&item.seen, 500)) }
                        td data-name="What to do" { @for remedy in &item.remedy { (step(remedy, asked.grant.actor())) br; } }
                    } } }
                }
            }
        }
        p { "The same in a terminal: " (to_run("threadline doctor")) }
    })
}

async fn read(asked: &Asked) -> Result<Report, Failure> {
    let mut connection = asked.shared.pool.acquire().await?;
    let report = doctor::run(&mut connection, &asked.shared.schema, &asked.shared.expectations()).await?;
    if asked.shared.policies.is_some() {
        return Ok(report);
    }
    Ok(Report { items: report.items.into_iter().map(untold).collect() })
}

/// What a check has found without being told what the settings say: nothing, where it is about them. What is deployed may be wrong by itself.
fn untold(item: Item) -> Item {
    let is_wrong = item.id == "redaction.drift" && matches!(item.state, State::Failed | State::Attention);
    if is_wrong || !OF_SETTINGS.contains(&item.id) {
        return item;
    }
    let remedy = vec![Remedy::Command("threadline doctor".into())];
    let seen = "this surface was not told what the settings say; a terminal that has them knows".to_owned();
    Item { state: State::Unknown, seen, remedy, ..item }
}

fn shown(state: State) -> Markup {
    let class = match state {
        State::Ok => "status ok",
        State::Failed => "status error",
        State::Attention | State::NotApplicable | State::Unknown => "status",
    };
    html! { span class=(class) { (state.as_str().replace('_', " ")) } }
}

fn step(remedy: &Remedy, actor: &ActorRef) -> Markup {
    match remedy {
        Remedy::Command(_) => to_run(&command::by(remedy.text(), actor)),
        Remedy::Sql(_) => to_run(remedy.text()),
        Remedy::Setting(_) | Remedy::Advice(_) => text::cut(&remedy.to_string(), 500),
    }
}
