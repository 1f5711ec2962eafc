//! What holds for all views together.

mod arbitrary;
mod errors;

use proptest::prelude::*;

use super::{json::from_json, url::*, *};

/// Every key, each with a value, in the order in which they are written.
const ALL: [(&str, &str); 19] = [
    ("kind", "change"),
    ("table", "billing.posts"),
    ("key", "7"),
    ("op", "update"),
    ("changed", "price"),
    ("before", "18.90"),
    ("after", "19.90"),
    ("actor", "user:42"),
    ("action", "user.*"),
    ("status", "error"),
    ("category", "billing"),
    ("correlation", "c-1"),
    ("request", "r-1"),
    ("job", "j-1"),
    ("source", "web"),
    ("text", "refund"),
    ("last", "36h"),
    ("from", "2026-05-14T00:00:00.000000Z"),
    ("to", "2026-05-15T00:00:00.000000Z"),
];

fn json(filter: &Filter) -> String {
    serde_json::to_string(filter).expect("texts are written")
}

proptest! {
    #[test]
    fn a_filter_survives_each_of_its_views(filter in arbitrary::filter()) {
        prop_assert_eq!(filter.check(), Ok(()));
        let text = filter.to_string();
        let of_text: Filter = text.parse().expect("is a filter");
        prop_assert_eq!(&of_text, &filter, "{}", text);
        prop_assert_eq!(of_text.to_string(), text, "text is stable");
        prop_assert_eq!(from_query(&to_query(&filter)), Ok(filter.clone()), "{}", to_query(&filter));
        prop_assert_eq!(from_json(&json(&filter)), Ok(filter.clone()), "{}", json(&filter));
        prop_assert_eq!(serde_json::from_str::<Filter>(&json(&filter)).expect("is a filter"), filter);
    }

    #[test]
    fn a_query_holds_nothing_that_means_something_in_a_url_or_in_html(filter in arbitrary::filter()) {
        let query = to_query(&filter);
        prop_assert!(query.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~*:/@%=&".contains(&byte)), "{}", query);
    }

    #[test]
    fn no_text_makes_a_parser_panic_and_what_is_read_is_stable(text in arbitrary_input()) {
        let read = [text.parse::<Filter>(), from_query(&text), from_json(&text)];
        for filter in read.into_iter().flatten() {
            prop_assert_eq!(filter.check(), Ok(()));
            prop_assert_eq!(filter.to_string().parse(), Ok(filter), "{}", text);
        }
    }
}

/// Texts of all kinds, and some that are nearly filters.
fn arbitrary_input() -> impl Strategy<Value = String> {
    let word = proptest::sample::select(ALL.to_vec())
        .prop_flat_map(|(key, value)| {
            (Just(key), prop_oneof![Just(value.to_owned()), any::<String>()], "[:=]\"?", "[\" &,]{0,2}")
        })
        .prop_map(|(key, value, before, behind)| format!("{key}{before}{value}{behind}"));
    let member =
        (proptest::sample::select(ALL.to_vec()), any::<String>()).prop_map(|((key, value), other)| {
            format!("{key:?}:{}", serde_json::Value::from(if other.len() % 2 == 0 { value } else { &other }))
        });
    prop_oneof![
        any::<String>(),
        "[a-z:=\"\\\\ &%{}+]{0,40}",
        proptest::collection::vec(word, 0..4).prop_map(|words| words.concat()),
        proptest::collection::vec(member, 0..4).prop_map(|members| format!("{{{}}}", members.join(","))),
    ]
}

#[test]
fn every_key_is_in_every_view() {
    assert_eq!(terms::names(), ALL.map(|(key, _)| key).join(", "));
    // A window is the last time, or between two times.
    for left_out in [&["from", "to"][..], &["last"]] {
        let pairs: Vec<_> = ALL.into_iter().filter(|(key, _)| !left_out.contains(key)).collect();
        let owned = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let filter = from_pairs(owned).expect("is a filter");

        let written = |between: &str| {
            pairs.iter().map(|(key, value)| format!("{key}{between}{value}")).collect::<Vec<_>>()
        };
        assert_eq!(filter.to_string(), written(":").join(" "));
        assert_eq!(to_query(&filter), written("=").join("&"));
        let members: Vec<_> = pairs.iter().map(|(key, value)| format!(r#""{key}":"{value}""#)).collect();
        assert_eq!(json(&filter), format!("{{{}}}", members.join(",")));

        let in_another_order = written(":").into_iter().rev().collect::<Vec<_>>().join("\n");
        assert_eq!(in_another_order.parse(), Ok(filter));
    }
}

#[test]
fn every_field_of_a_filter_has_a_key() {
    let all: Filter = "kind:change table:t key:7 op:update changed:c before:1 after:2 actor:anonymous action:a status:ok category:c \
                       correlation:c request:r job:j source:s text:t last:1d"
        .parse()
        .expect("is a filter");
    // Without `..`: a field that is added is missing here, and then in `ALL`.
    let Filter {
        kind,
        table,
        key,
        op,
        changed,
        actor,
        action,
        status,
        category,
        correlation,
        request,
        job,
        source,
        text,
        window,
    } = all;
    assert!(
        kind.is_some()
            && table.is_some()
            && key.is_some()
            && op.is_some()
            && actor.is_some()
            && action.is_some()
    );
    assert!(changed.is_some_and(|changed| changed.before.is_some() && changed.after.is_some()));
    assert!(status.is_some() && window != Window::Everything);
    assert!([category, correlation, request, job, source, text].iter().all(Option::is_some));
}

#[test]
fn text_is_written_in_one_way() {
    for (given, canonical) in [
        ("", ""),
        (" \t\n", ""),
        ("table:posts", "table:posts"),
        ("op:update\ttable:posts  last:24h\n", "table:posts op:update last:1d"),
        ("table:\"posts\"", "table:posts"),
        (r#"table:"\"a.b\".c""#, r#"table:"\"a.b\".c""#),
        (r#"table:billing."a.b""#, r#"table:"billing.\"a.b\"""#),
        ("table:\"Order Lines\"", "table:\"Order Lines\""),
        ("table:Posts", "table:Posts"),
        (
            r#"key:{"tenant_id":"1","line_no":7} table:t"#,
            r#"table:t key:"{\"line_no\":\"7\",\"tenant_id\":\"1\"}""#,
        ),
        (r"changed:path after:C:\new", r"changed:path after:C:\new"),
        (r#"changed:path after:"C:\\new dir""#, r#"changed:path after:"C:\\new dir""#),
        (r#"after:"" changed:c before:"""#, r#"changed:c before:"" after:"""#),
        ("text:\"a\n\tb\"", "text:\"a\n\tb\""),
        ("text:größe", "text:größe"),
        ("text:\"a\u{a0}b\"", "text:\"a\u{a0}b\""),
        ("text:a:b::", "text:a:b::"),
        ("actor:user:a:b", "actor:user:a:b"),
        ("actor:anonymous", "actor:anonymous"),
        ("action:user.*", "action:user.*"),
        (
            "to:2026-05-15 from:2026-05-14T02:00:00+02:00",
            "from:2026-05-14T00:00:00.000000Z to:2026-05-15T23:59:59.999999Z",
        ),
    ] {
        let filter: Filter = given.parse().expect(given);
        assert_eq!(filter.to_string(), canonical, "{given}");
        assert_eq!(canonical.parse(), Ok(filter), "{given}");
    }
}

#[test]
fn a_query_is_read_as_browsers_write_it() {
    for (query, text) in [
        ("", ""),
        ("?", ""),
        ("?table=posts&op=update", "table:posts op:update"),
        ("&table=posts&&op=update&", "table:posts op:update"),
        ("text=a+b%20c%2Bd", r#"text:"a b c+d""#),
        ("t%65xt=100%", "text:100%"),
        ("text=a=b", "text:a=b"),
        ("actor=user%3A42", "actor:user:42"),
        ("changed=c&before=&after=%C3%A9", r#"changed:c before:"" after:é"#),
    ] {
        assert_eq!(from_query(query).map(|filter| filter.to_string()).as_deref(), Ok(text), "{query}");
    }
    let filter: Filter = r#"table:"a b" text:"1+1=2&?#é""#.parse().expect("is a filter");
    assert_eq!(to_query(&filter), "table=a%20b&text=1%2B1%3D2%26%3F%23%C3%A9");
}
