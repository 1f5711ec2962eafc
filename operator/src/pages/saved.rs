//! Saved views of whoever asks: filters under a name, which nobody else sees.

use maud::{Markup, html};
use serde::Serialize;
use threadline::{
    ActorType,
    query::{
        Filter,
        filter::url::{from_query, to_query},
    },
    views::{self, NAME_MAX, SavedView, VIEWS_MAX},
    visible,
};
use uuid::Uuid;

use crate::{
    answer::Answer,
    asked::{Answered, Asked},
    failure::Failure,
    view::{View, empty, text},
};

/// What the page is made of.
#[derive(Serialize)]
struct Saved {
    views: Vec<SavedView>,
    /// The action that stands for what was just done.
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<Uuid>,
}

pub(crate) async fn page(asked: Asked) -> Answered {
    let views = views::list(&asked.writer()?, asked.grant.actor()).await?;
    let done = asked.query.get("done").and_then(|id| Uuid::try_parse(id).ok());
    let data = Saved { views, done };
    let is_nobody = asked.grant.actor().kind() == ActorType::Anonymous;
    asked.answer("Saved views", &data, |view| {
        html! {
            @if let Some(id) = data.done {
                p.done role="status" { "Done, and recorded as " a href=(view.links.to(&format!("actions/{id}"))) { "this action" } "." }
            }
            @if is_nobody {
                (empty("No views of nobody", &html! { "Views belong to somebody, and it is not known who you are." }))
            } @else if data.views.is_empty() {
                (empty("No saved views", &html! { "Save one on the " a href=(view.links.to("timeline")) { "timeline" } ": a filter under a name of yours. A window such as last:24h moves with the time. Nobody else sees them." }))
            } @else {
                (table(view, &data.views))
                p.none { (data.views.len()) " of at most " (VIEWS_MAX) ". Nobody else sees them." }
            }
        }
    })
}

fn table(view: &View<'_>, views: &[SavedView]) -> Markup {
    html! {
        table.saved {
            caption.visually-hidden { "Your saved views" }
            thead { tr { th scope="col" { "View" } th scope="col" { "Filter" } th scope="col" { "Saved" } th scope="col" { "What to do" } } }
            tbody {
                @for saved in views {
                    tr {
                        th scope="row" { (link(view, saved)) }
                        td { @match &saved.filter {
                            Some(filter) => { code { (text::cut(&filter.to_string(), 300)) } },
                            None => { span.none { "Another program has saved it; it is no filter here" } },
                        } }
                        td { (view.time(saved.saved_at)) }
                        td.acts { (acts(view, saved)) }
                    }
                }
            }
        }
    }
}

/// The name of a view, which leads to what it finds.
pub(crate) fn link(view: &View<'_>, saved: &SavedView) -> Markup {
    let name = text::line(&saved.name);
    let Some(filter) = &saved.filter else { return name };
    html! { a href=(view.links.filtered("timeline", filter, &[])) { (name) } }
}

fn acts(view: &View<'_>, saved: &SavedView) -> Markup {
    let id = saved.id.to_string();
    let (field, name) = (format!("name-{id}"), visible::text(&saved.name));
    html! {
        @if let Some(filter) = &saved.filter {
            button.copy type="button" data-copy-link=(view.links.filtered("timeline", filter, &[])) hidden { "Copy link" }
        }
        form.act action=(view.links.to("saved/rename")) method="post" {
            input type="hidden" name="id" value=(id);
            label.visually-hidden for=(field) { "Another name" }
            input id=(field) name="name" value=(name) required maxlength=(NAME_MAX) autocomplete="off";
            button { "Rename" }
        }
        form.act action=(view.links.to("saved/remove")) method="post" {
            input type="hidden" name="id" value=(id);
            button aria-label={ "Delete " (name) } { "Delete" }
        }
    }
}

/// The form that saves a filter.
pub(crate) fn form(view: &View<'_>, filter: &Filter) -> Markup {
    html! {
        details.save {
            summary { "Save this view" }
            form.act action=(view.links.to("saved/save")) method="post" {
                // Sent twice, it saves once.
                input type="hidden" name="id" value=(Uuid::new_v4());
                input type="hidden" name="filter" value=(to_query(filter));
                label for="view-name" { "Name" }
                input #view-name name="name" required maxlength=(NAME_MAX) autocomplete="off";
                button { "Save" }
            }
        }
    }
}

pub(crate) async fn save(asked: Asked) -> Answered {
    let filter = from_query(asked.form.get("filter").unwrap_or_default())?;
    let name = asked.form.get("name").unwrap_or_default();
    let done = views::save(&asked.writer()?, asked.grant.actor(), asked.form_id()?, name, &filter).await?;
    Ok(asked.done(done))
}

pub(crate) async fn rename(asked: Asked) -> Answered {
    let name = asked.form.get("name").unwrap_or_default();
    let done = views::rename(&asked.writer()?, asked.grant.actor(), asked.form_id()?, name).await?;
    Ok(asked.done(Some(done)))
}

pub(crate) async fn remove(asked: Asked) -> Answered {
    let done = views::remove(&asked.writer()?, asked.grant.actor(), asked.form_id()?).await?;
    Ok(asked.done(Some(done)))
}

impl Asked {
    /// The id that a form carries.
    fn form_id(&self) -> Result<Uuid, Failure> {
        let id = self.form.get("id").and_then(|id| Uuid::try_parse(id).ok());
        id.ok_or_else(|| {
            Failure::unusable(
                "form_incomplete",
                "The form lacks the id of the view: open the page again, and send it from there.",
            )
        })
    }

    /// Back to the list, with a link to what stands for it.
    fn done(&self, action: Option<Uuid>) -> Answer {
        let link = match action {
            Some(action) => self.links.with("saved", &[("done", &action.to_string())]),
            None => self.links.to("saved"),
        };
        Answer::to(link)
    }
}
