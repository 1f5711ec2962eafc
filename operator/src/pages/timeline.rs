//! Everything that a filter finds, the newest first.

use maud::{Markup, html};
use threadline::query::{
    Filter, From, Instant, Page, PageRequest, Window,
    filter::{keys, url::to_query},
};
use time::OffsetDateTime;

use crate::{
    Capability,
    answer::Answer,
    asked::{Answered, Asked},
    failure::Failure,
    pages::saved,
    view::{
        View, command, copy, empty, list,
        pager::{nothing_newer, pager},
        text,
    },
};

/// Lengths of time that a click is enough for.
const SPANS: [&str; 5] = ["1h", "24h", "7d", "30d", "90d"];

pub(crate) async fn page(asked: Asked) -> Answered {
    if let Some(text) = asked.query.get("q") {
        // What was typed becomes a link that says it.
        let filter: Filter = text.parse()?;
        filter.check()?;
        return Ok(Answer::to(asked.links.filtered("timeline", &filter, &[])));
    }
    let filter = asked.query.filter()?;
    if asked.query.is("form", "1") {
        return Ok(Answer::to(asked.links.filtered("timeline", &filter, &[])));
    }
    let request = PageRequest {
        size: asked.size()?,
        from: asked.from()?,
        by_transaction: asked.query.is("group", "1"),
        ..PageRequest::default()
    };
    let page = asked.reader().page(&filter, &request).await?;
    asked.answer("Timeline", &page, |view| html! {
        (search(view, &filter))
        (windows(view, &filter))
        (found(view, &filter, is_newest(&request, &page)))
        @if asked.has_views() { (saved::form(view, &filter)) }
        @if asked.grant.allows(Capability::Export) { p { a href=(view.links.filtered("exports", &filter, &[])) { "Export this" } } }
        @if page.entries.is_empty() { (nothing(view, &filter, &request, &page)) } @else { (list::entries(view, &page.entries)) }
        (more(view, &filter, &request, &page))
    })
}

impl Asked {
    /// How many entries a page has.
    pub(crate) fn size(&self) -> Result<u16, Failure> {
        let Some(text) = self.query.get("size") else { return Ok(PageRequest::default().size) };
        text.parse().map_err(|_| {
            Failure::unusable(
                "page_size",
                format!("size is a number of entries, 1 to 1000, and not {text:?}."),
            )
        })
    }
}

/// The filter as text, and what it is made of as links that leave a part of it out.
fn search(view: &View<'_>, filter: &Filter) -> Markup {
    let parts = parts(filter);
    html! {
        form.filter action=(view.links.to("timeline")) {
            label for="filter" { "Filter" }
            input #filter name="q" value=(filter) spellcheck="false" autocomplete="off" list="qualifiers" aria-describedby="filter-help";
            datalist id="qualifiers" { @for key in keys() { option value={ (key.key) ":" } { (key.meaning) } } }
            button { "Show" }
            p #filter-help { "Words such as " code { "table:posts op:update actor:user:u1 last:24h" } ". " a href=(view.links.to("help")) { "All of them" } }
        }
        @if !parts.is_empty() {
            ul.chips aria-label="This filter" {
                @for (key, value, without) in &parts {
                    li {
                        span { (key) ": " (text::cut(value, 60)) } " "
                        a href=(view.links.filtered("timeline", without, &[])) aria-label={ "Without " (key) } { "×" }
                    }
                }
                li { a href=(view.links.to("timeline")) { "Reset" } }
            }
        }
    }
}

/// Each key of a filter, its value, and the filter without it.
fn parts(filter: &Filter) -> Vec<(String, String, Filter)> {
    let pairs: Vec<(String, String)> =
        url::form_urlencoded::parse(to_query(filter).as_bytes()).into_owned().collect();
    let without = |left_out: &str| {
        // What cannot be asked for by itself goes with what it belongs to.
        let rest = pairs.iter().filter(|(key, _)| {
            key != left_out
                && !(left_out == "table" && key == "key")
                && !(left_out == "changed" && matches!(key.as_str(), "before" | "after"))
        });
        threadline::query::filter::url::from_pairs(rest.cloned()).unwrap_or_default()
    };
    pairs.iter().map(|(key, value)| (key.clone(), value.clone(), without(key))).collect()
}

/// The window: relative ones that a link keeps relative, and this one as it is now.
fn windows(view: &View<'_>, filter: &Filter) -> Markup {
    let within = |text: &str| text.parse().map(|span| filter.clone().within(Window::Last(span)));
    html! {
        ul.windows aria-label="Window" {
            @for span in SPANS {
                @if let Ok(within) = within(span) {
                    @let current = (within.window == filter.window).then_some("true");
                    li { a href=(view.links.filtered("timeline", &within, &[])) aria-current=[current] { span.visually-hidden { "Last " } (span) } }
                }
            }
            @let all = filter.clone().within(Window::Everything);
            @let current = (filter.window == Window::Everything).then_some("true");
            li { a href=(view.links.filtered("timeline", &all, &[])) aria-current=[current] { "All" } }
            @if let Some(frozen) = frozen(filter, view.now) {
                li { a href=(view.links.filtered("timeline", &frozen, &[])) title="A link to it means the same tomorrow" { "Freeze" } }
            }
        }
    }
}

/// A window that moves, as it is now.
fn frozen(filter: &Filter, now: OffsetDateTime) -> Option<Filter> {
    let Window::Last(_) = filter.window else { return None };
    let (from, _) = filter.window.ends(now);
    Some(filter.clone().within(Window::Between { from: from.map(Instant::new), to: Some(Instant::new(now)) }))
}

/// Whether nothing that was there is newer than what is shown.
fn is_newest(request: &PageRequest, page: &Page) -> bool {
    match request.from {
        From::Newest => true,
        From::NewerThan(_) => !page.has_more,
        From::OlderThan(_) => false,
    }
}

/// What is said about all of it: how many there are, which the script asks for, and other ways to have it.
fn found(view: &View<'_>, filter: &Filter, is_newest: bool) -> Markup {
    // What is new belongs above the newest, and not into a time that is over.
    let is_followed = is_newest && !matches!(filter.window, Window::Between { to: Some(_), .. });
    let command = command::of("threadline timeline", &filter.to_string());
    html! {
        p.found {
            span data-part=(view.links.filtered("timeline/count", filter, &[("part", "1")])) { a href=(view.links.filtered("timeline/count", filter, &[])) { "Count" } }
            " " (copy("as command", &command))
            @if is_followed { " " button.tail type="button" data-tail=(view.links.filtered("timeline/tail", filter, &[])) hidden aria-pressed="false" { "Follow" } }
        }
        div.new #new hidden { button type="button" { "New entries" } }
    }
}

/// Why nothing is shown.
fn nothing(view: &View<'_>, filter: &Filter, request: &PageRequest, page: &Page) -> Markup {
    if let Some(to) = page.visited_to {
        return empty(
            "Nothing so far",
            &html! {
                "What you look for is rare: everything back to " (view.exact_time(to)) " was looked at. \"Older\" looks further; a table or an actor makes it faster."
            },
        );
    }
    if let Some(nothing) = nothing_newer(&request.from, &own(view, filter, request, &[])) {
        return nothing;
    }
    let everything = Filter::default();
    if *filter == everything {
        return empty(
            "Nothing is recorded yet",
            &html! { "The first change of a captured table, or the first recorded action, appears here." },
        );
    }
    if filter.window != Window::Everything {
        let all = filter.clone().within(Window::Everything);
        return empty(
            "Nothing in this window",
            &html! {
                "Nothing that you may see fits in this time. " a href=(view.links.filtered("timeline", &all, &[])) { "Look at all times" } "."
            },
        );
    }
    // A correlation id may be written as a filter is, such as `job:7`.
    let text = filter.to_string();
    let is_word = !text.contains(char::is_whitespace);
    empty(
        "Nothing fits",
        &html! {
            "Nothing that you may see fits this filter. Leave a part of it out with ×. Older entries may have been purged, and tables that are not captured have none."
            @if is_word { " If " code { (text::cut(&text, 200)) } " is an id: " a href=(view.links.with("correlation", &[("correlation", &text)])) { "what it ties together" } "." }
        },
    )
}

/// This page from another place on.
fn own(view: &View<'_>, filter: &Filter, request: &PageRequest, place: &[(&str, &str)]) -> String {
    let size = request.size.to_string();
    let mut pairs = Vec::new();
    if request.size != PageRequest::default().size {
        pairs.push(("size", size.as_str()));
    }
    if request.by_transaction {
        pairs.push(("group", "1"));
    }
    pairs.extend(place);
    view.links.filtered("timeline", filter, &pairs)
}

fn more(view: &View<'_>, filter: &Filter, request: &PageRequest, page: &Page) -> Markup {
    let own = |place: &[(&str, &str)]| own(view, filter, request, place);
    pager(&request.from, page.newer.as_ref(), page.older.as_ref(), &own(&[]), |name, cursor| {
        own(&[(name, cursor)])
    })
}
