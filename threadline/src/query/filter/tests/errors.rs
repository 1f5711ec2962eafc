//! Each error, in each view that has it.

use super::*;

/// What a parser says: the term, and the message.
fn refused(read: Result<Filter, FilterError>) -> (&'static str, String) {
    let error = read.expect_err("is no filter");
    (error.term(), error.to_string())
}

#[test]
fn each_error_of_text_has_its_term_and_says_what_is_expected() {
    for (text, term, part) in [
        ("user:7", "unknown_filter", r#"there is no filter "user"; filters are kind, table, key"#),
        (":posts", "unknown_filter", r#"there is no filter """#),
        ("Table:posts", "unknown_filter", "Table"),
        ("posts", "filter_without_value", r#""posts" has no value: a filter is KEY:VALUE"#),
        ("table:posts \"two words\"", "filter_without_value", "two"),
        ("table :posts", "filter_without_value", r#""table""#),
        ("op:", "filter_without_value", r#""op:""#),
        ("op:\"\"", "filter_without_value", r#""op""#),
        ("text:\"\"", "filter_without_value", r#""text""#),
        ("changed:c before:", "filter_without_value", r#""before:""#),
        ("op:update op:update", "filter_twice", "op is given twice"),
        ("changed:c before:\"\" before:1", "filter_twice", "before is given twice"),
        ("kind:row", "filter_value", r#"kind cannot be "row": expected change, action, event or recorded"#),
        ("table:a.b.c", "filter_value", "expected TABLE or SCHEMA.TABLE"),
        ("table:t key:{}", "filter_value", "expected a value, or a JSON object"),
        ("op:UPDATE", "filter_value", "expected insert, update, delete or truncate"),
        ("actor:42", "filter_value", "expected anonymous, or TYPE:ID"),
        ("actor:user", "filter_value", "expected anonymous, or TYPE:ID"),
        ("actor:user:", "filter_value", "expected anonymous, or TYPE:ID"),
        ("actor:robot:7", "filter_value", "expected anonymous, or TYPE:ID"),
        ("actor:anonymous:7", "filter_value", "expected anonymous, or TYPE:ID"),
        ("status:failed", "filter_value", "expected ok or error"),
        ("correlation:\" \"", "filter_value", "expected an id of 1 to 256 bytes"),
        ("last:0s", "filter_value", "last cannot be"),
        ("from:yesterday", "filter_value", "from cannot be"),
        ("to:2026-13-01", "filter_value", "to cannot be"),
        ("text:a\0b", "filter_value", "without the character NUL"),
        ("changed:c after:\0", "filter_value", "after cannot be"),
        (r#"text:"open"#, "filter_value", "expected a text in double quotes"),
        (r#"text:"a\"#, "filter_value", "expected a text in double quotes"),
        (r#"text:"a\n""#, "filter_value", "expected a text in double quotes"),
        (r#"table:"a.b".c"#, "filter_value", "expected a text in double quotes"),
        (r#"text:"a"b"#, "filter_value", "expected a text in double quotes"),
        ("key:7", "filter_combination", "say table too"),
        ("before:1", "filter_combination", "say changed too"),
        ("after:1", "filter_combination", "say changed too"),
        ("changed:c op:insert", "filter_combination", "leave out op"),
        ("kind:action table:posts", "filter_combination", "leave out kind"),
        ("kind:event op:delete", "filter_combination", "leave out kind"),
        ("kind:event changed:c", "filter_combination", "leave out kind"),
        ("last:1d from:2026-05-15", "filter_combination", "leave one out"),
        ("to:2026-05-15 last:1d", "filter_combination", "leave one out"),
        ("from:2026-05-16 to:2026-05-15", "filter_combination", "from is later than to"),
    ] {
        let (found, message) = refused(text.parse());
        assert_eq!(found, term, "{text}");
        assert!(message.contains(part), "{text}: {message}");
    }
}

#[test]
fn each_error_of_a_query_has_its_term() {
    for (query, term, part) in [
        ("page=2", "unknown_filter", r#""page""#),
        ("=2", "unknown_filter", r#""""#),
        ("%FF=2", "unknown_filter", "%FF"),
        ("table", "filter_without_value", r#""table""#),
        ("table=", "filter_without_value", r#""table""#),
        ("op=update&op=insert", "filter_twice", "op is given twice"),
        ("text=%FF", "filter_value", r#"text cannot be "%FF": expected UTF-8"#),
        ("text=a%00", "filter_value", "without the character NUL"),
        ("from=2026-05-15T12:00:00+02:00", "filter_value", "from cannot be"),
        ("key=7", "filter_combination", "say table too"),
    ] {
        let (found, message) = refused(from_query(query));
        assert_eq!(found, term, "{query}");
        assert!(message.contains(part), "{query}: {message}");
    }
}

#[test]
fn each_error_of_json_has_its_term() {
    for (text, term, part) in [
        ("", "filter_json", "a filter in JSON is an object of texts: EOF"),
        ("[]", "filter_json", "expected an object"),
        (r#""table:posts""#, "filter_json", "expected an object"),
        (r#"{"table":"posts"} {}"#, "filter_json", "trailing characters"),
        (r#"{"table":"posts""#, "filter_json", "EOF"),
        (r#"{"table":null}"#, "filter_json", "table is null: leave it out"),
        (r#"{"after":19.9}"#, "filter_json", "after is a number: write it in quotes"),
        (r#"{"after":true}"#, "filter_json", "after is true or false"),
        (r#"{"key":{"id":"7"}}"#, "filter_json", "key is an object: write it as a text"),
        (r#"{"op":["insert","update"]}"#, "filter_json", "op is an array"),
        (r#"{"user":7}"#, "unknown_filter", r#""user""#),
        (r#"{"op":""}"#, "filter_without_value", r#""op""#),
        (r#"{"op":"update","op":"update"}"#, "filter_twice", "op is given twice"),
        (r#"{"op":"UPDATE"}"#, "filter_value", "expected insert"),
        (r#"{"text":"\u0000"}"#, "filter_value", "without the character NUL"),
        (r#"{"before":"1"}"#, "filter_combination", "say changed too"),
    ] {
        let (found, message) = refused(from_json(text));
        assert_eq!(found, term, "{text}");
        assert!(message.contains(part), "{text}: {message}");
        let of_serde = serde_json::from_str::<Filter>(text).expect_err("is no filter").to_string();
        assert!(
            of_serde.contains(part.trim_start_matches("a filter in JSON is an object of texts: ")),
            "{text}: {of_serde}"
        );
    }
}

#[test]
fn what_no_view_can_write_is_refused_where_it_is_typed() {
    let of = Filter::default;
    let table = |name: &str| Some(Table { schema: None, name: name.into() });
    let changed = |column: &str| Some(Changed { column: column.into(), before: None, after: None });
    for (filter, term) in [
        (Filter { table: table(""), ..of() }, "filter_value"),
        (Filter { table: table("a\0"), ..of() }, "filter_value"),
        (Filter { table: table("t"), key: Some(Key::Value(String::new())), ..of() }, "filter_without_value"),
        (Filter { table: table("t"), key: Some(Key::Columns([].into())), ..of() }, "filter_value"),
        (Filter { table: table("t"), key: Some(Key::Value("{\0".into())), ..of() }, "filter_value"),
        (Filter { changed: changed(""), ..of() }, "filter_without_value"),
        (Filter { action: Some(Name::Exact(String::new())), ..of() }, "filter_without_value"),
        (Filter { category: Some(String::new()), ..of() }, "filter_without_value"),
        (Filter { correlation: Some("x".repeat(257)), ..of() }, "filter_value"),
        (Filter { correlation: Some("\t".into()), ..of() }, "filter_value"),
        (Filter { request: Some(String::new()), ..of() }, "filter_without_value"),
        (Filter { job: Some(String::new()), ..of() }, "filter_without_value"),
        (Filter { source: Some(String::new()), ..of() }, "filter_without_value"),
        (Filter { text: Some("\0".into()), ..of() }, "filter_value"),
    ] {
        assert_eq!(filter.check().map_err(|error| error.term()), Err(term), "{filter:?}");
    }
    let longest = Filter { correlation: Some("x".repeat(CORRELATION_BYTES_MAX)), ..of() };
    assert_eq!(longest.check(), Ok(()));
}
