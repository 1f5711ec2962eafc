//! Filters of every kind that can be used, with odd characters everywhere.

use proptest::{collection, option, prelude::*};
use time::OffsetDateTime;

use crate::{
    ActorRef, ActorType, Status,
    query::filter::{
        CORRELATION_BYTES_MAX, Changed, Filter, Instant, Key, Kind, Name, Op, Span, Table, Window,
    },
};

/// A text that PostgreSQL can hold: every other character means something in one of the views.
fn any_text() -> impl Strategy<Value = String> {
    let odd: Vec<char> =
        "\\\":.,;*&=+%?#'/@~{}[]()<> \t\r\n\u{0b}\u{85}\u{a0}\u{2028}\u{feff}é漢🦀".chars().collect();
    let c = prop_oneof![proptest::sample::select(odd), any::<char>(), proptest::char::range('a', 'c')];
    collection::vec(c.prop_filter("PostgreSQL holds no NUL", |c| *c != '\0'), 0..12)
        .prop_map(|chars| chars.into_iter().collect())
}

/// One with something in it.
fn text() -> impl Strategy<Value = String> {
    any_text().prop_map(|text| if text.is_empty() { "\"".to_owned() } else { text })
}

fn correlation() -> impl Strategy<Value = String> {
    text().prop_map(|mut text| {
        if text.trim().is_empty() {
            text.push('\\');
        }
        assert!(text.len() <= CORRELATION_BYTES_MAX, "texts are short");
        text
    })
}

fn table() -> impl Strategy<Value = Table> {
    (option::of(text()), text()).prop_map(|(schema, name)| Table { schema, name })
}

fn key() -> impl Strategy<Value = Key> {
    prop_oneof![
        text().prop_map(Key::Value),
        collection::btree_map(text(), any_text(), 1..4).prop_map(Key::Columns)
    ]
}

fn changed() -> impl Strategy<Value = Changed> {
    (text(), option::of(any_text()), option::of(any_text())).prop_map(|(column, before, after)| Changed {
        column,
        before,
        after,
    })
}

fn actor() -> impl Strategy<Value = ActorRef> {
    let kinds = [
        ActorType::User,
        ActorType::Admin,
        ActorType::ServiceAccount,
        ActorType::Job,
        ActorType::System,
        ActorType::Anonymous,
    ];
    (proptest::sample::select(kinds.to_vec()), text())
        .prop_map(|(kind, id)| ActorRef::new(kind, Some(id)).expect("has an id"))
}

fn name() -> impl Strategy<Value = Name> {
    let odd = "[a.*\\\\]{1,5}";
    prop_oneof![
        text().prop_map(Name::Exact),
        any_text().prop_map(Name::Prefix),
        odd.prop_map(Name::Exact),
        odd.prop_map(Name::Prefix)
    ]
}

fn instant() -> impl Strategy<Value = Instant> {
    // From the year 1 to 9999.
    (-62_135_596_800_000_000_i64..253_402_300_800_000_000).prop_map(|micros| {
        let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000);
        Instant::new(time.expect("is in these years"))
    })
}

fn window() -> impl Strategy<Value = Window> {
    prop_oneof![
        Just(Window::Everything),
        (1_u32..).prop_map(|seconds| Window::Last(Span::from_seconds(seconds).expect("is not zero"))),
        (option::of(instant()), option::of(instant())).prop_map(|(one, other)| match (one, other) {
            (Some(one), Some(other)) =>
                Window::Between { from: Some(one.min(other)), to: Some(one.max(other)) },
            (from, to) => Window::Between { from, to },
        })
    ]
}

/// A filter that [`Filter::check`] takes.
pub(super) fn filter() -> impl Strategy<Value = Filter> {
    let kinds = vec![Kind::Change, Kind::Action, Kind::Event, Kind::Recorded];
    let ops = vec![Op::Insert, Op::Update, Op::Delete, Op::Truncate];
    let of_change = (
        option::of(proptest::sample::select(kinds)),
        option::of(table()),
        option::of(key()),
        option::of(proptest::sample::select(ops)),
        option::of(changed()),
    );
    let of_others = (
        option::of(actor()),
        option::of(name()),
        option::of(proptest::sample::select(vec![Status::Ok, Status::Error])),
        option::of(text()),
        option::of(correlation()),
        option::of(text()),
        option::of(text()),
        option::of(text()),
        option::of(text()),
        window(),
    );
    (of_change, of_others).prop_map(|((kind, table, key, op, changed), others)| {
        let (actor, action, status, category, correlation, request, job, source, text, window) = others;
        let mut filter = Filter {
            kind,
            key: key.filter(|_| table.is_some()),
            table,
            op: op.filter(|op| changed.is_none() || *op == Op::Update),
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
        };
        if filter.is_of_changes() && kind.is_some() {
            filter.kind = Some(Kind::Change);
        }
        filter
    })
}
