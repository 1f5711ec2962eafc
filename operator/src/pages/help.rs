//! What the surface knows: words of filters, keys, limits, and what is not shown.

use maud::html;
use serde_json::json;
use threadline::query::filter::keys;

use crate::asked::{Answered, Asked};

/// Keys of the keyboard, as the script has them.
const KEYS: [(&str, &str); 9] = [
    ("/", "search"),
    ("?", "this page"),
    ("j k", "the next entry, the one before"),
    ("o or Enter", "open the entry"),
    ("x", "all fields of the entry"),
    ("[ ]", "older, newer"),
    ("t", "follow, or stop"),
    ("c", "copy the link of the page"),
    ("g and a letter", "the page whose name begins with it, of those at the top"),
];

pub(crate) async fn page(asked: Asked) -> Answered {
    let limits = asked.shared.limits;
    let data = json!({"qualifiers": keys().map(|key| json!({"key": key.key, "example": key.example, "meaning": key.meaning})).collect::<Vec<_>>()});
    asked.answer("Help", &data, |_| html! {
        section {
            h2 { "Words of a filter" }
            table {
                caption.visually-hidden { "Words of a filter" }
                thead { tr { th scope="col" { "Word" } th scope="col" { "Meaning" } } }
                tbody { @for key in keys() { tr { th scope="row" { code { (key.key) ":" (key.example) } } td { (key.meaning) } } } }
            }
        }
        section {
            h2 { "Keyboard" }
            table {
                caption.visually-hidden { "Keys" }
                thead { tr { th scope="col" { "Key" } th scope="col" { "What it does" } } }
                tbody { @for (key, meaning) in KEYS { tr { th scope="row" { kbd { (key) } } td { (meaning) } } } }
            }
            p { label { input type="checkbox" data-keys=""; " Keys of the keyboard do something on these pages" } }
        }
        section {
            h2 { "Limits" }
            p { "A statement may take " (limits.statement.as_secs()) " seconds, and " (limits.per_actor) " requests of one person are answered at a time. Nothing is counted beyond 10,000." }
            p { "You see: " code { (asked.grant.scope().describe()) } }
        }
    })
}
