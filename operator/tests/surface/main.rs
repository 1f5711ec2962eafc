//! The operator surface as a browser and an attacker see it, over a real PostgreSQL.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod alone;
mod authorization;
mod browser;
mod console;
mod crawl;
mod following;
mod handing;
mod hostile;
mod investigation;
mod lasting;
mod leading;
mod looking;
mod mounts;
mod pages;
mod pipeline;
mod rows;
mod verifying;
mod views;

use std::time::Duration;

use axum::http::request::Parts;
use operator::{Ask, Capability, Denied, Grant, Limits, OperatorAuth};
use reqwest::header;
use threadline::{
    ActorRef, ActorType,
    query::{Rule, Scope},
};

use time::OffsetDateTime;

use console::Console;

/// As long as anything may take here.
const DEADLINE: Duration = Duration::from_secs(60);

/// How long a grant is good that is called brief.
const BRIEF: Duration = Duration::from_secs(3);

/// Lets in whom the cookie `staff` names: `everything`, a tenant, or with the name of a capability behind a plus each.
#[derive(Debug, Clone, Copy)]
struct Staff;

impl OperatorAuth for Staff {
    async fn authorize(&self, parts: &Parts, _ask: Ask) -> Result<Grant, Denied> {
        let cookies =
            parts.headers.get(header::COOKIE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let staff = cookies.split("; ").find_map(|cookie| cookie.strip_prefix("staff="));
        let Some(staff) = staff else { return Err(Denied::new("Nobody is logged in.").redirect("/login")) };
        let (who, capabilities) = staff.split_once('+').unwrap_or((staff, ""));
        let scope = match who {
            "panic" => panic!("the host's own fault"),
            "hang" => futures::future::pending().await,
            "everything" => Scope::everything(),
            "unstorable" => Scope::nothing().changes(Rule::Sql { condition: "true", value: String::new() }),
            tenant => Scope::of_context("tenant", tenant),
        };
        let actor = ActorRef::new(ActorType::Admin, Some(who)).unwrap();
        let allowed = capabilities
            .split('+')
            .filter_map(|name| Capability::ALL.into_iter().find(|capability| capability.as_str() == name));
        let grant = allowed.fold(Grant::new(actor, scope), Grant::allow);
        let is_brief = capabilities.split('+').any(|name| name == "brief");
        Ok(if is_brief { grant.valid_until(OffsetDateTime::now_utc() + BRIEF) } else { grant })
    }
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.authorize = Duration::from_secs(2);
    limits
}

/// Links, forms and streams of a page, as they stand there.
fn links(html: &str) -> Vec<String> {
    let attributes = ["href=\"", "action=\"", "src=\"", "data-part=\"", "data-tail=\""];
    let found = attributes.iter().flat_map(|attribute| html.split(attribute).skip(1));
    let values = found.filter_map(|rest| rest.split('"').next());
    values
        .map(|value| {
            value.replace("&amp;", "&").replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">")
        })
        .collect()
}
