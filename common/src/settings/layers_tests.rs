use super::super::UnknownEvents;
use super::*;

fn layers(text: &str, variables: &[(&str, &str)], flags: &[&str]) -> Result<Settings, SettingsError> {
    let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    let mut layers = Layers::default().text(text, "audit.toml")?.environment(variables)?;
    for flag in flags {
        layers = layers.flag(flag)?;
    }
    layers.build().map(|(settings, _)| settings)
}

fn refusal(text: &str, variables: &[(&str, &str)], flags: &[&str]) -> String {
    layers(text, variables, flags).expect_err("these settings are wrong").to_string()
}

#[test]
fn flags_lie_over_the_environment_and_that_over_the_file() {
    let file = "[relay]\npage_rows = 100\nlease = \"20s\"\n[publisher]\nmax_in_flight = 100";
    let environment = [("AUDIT__RELAY__PAGE_ROWS", "200"), ("AUDIT__PUBLISHER__MAX_IN_FLIGHT", "200")];
    let settings = layers(file, &environment, &["relay.page_rows=300"]).expect("valid");
    assert_eq!(settings.relay.page_rows, 300);
    assert_eq!(settings.publisher.max_in_flight, 200);
    assert_eq!(settings.relay.lease, std::time::Duration::from_secs(20));
}

#[test]
fn an_unknown_key_is_refused_with_its_path_and_its_source() {
    let message = refusal("[publisher]\npage_sise = 1", &[], &[]);
    assert!(message.starts_with("publisher.page_sise from audit.toml: unknown field"), "{message}");
    let message = refusal("", &[("AUDIT__PUBLISHR__WINDOW", "1")], &[]);
    assert!(
        message.starts_with("publishr from the environment variable AUDIT__PUBLISHR__WINDOW"),
        "{message}"
    );
    let message = refusal("", &[], &["consumer.wrokers=1"]);
    assert!(message.starts_with("consumer.wrokers from --set"), "{message}");
}

#[test]
fn the_sections_of_the_command_threadline_are_ignored() {
    let file = "[capture.tables.\"billing.invoices\"]\nmask = [\"total\"]\n[coverage]\nexpected = [\"users\"]\n[retention]\nkeep_days = 90\n[export]\nkey = \"key.pem\"\n[receipts]\nkey = \"key.pem\"\n[relay]\npage_rows = 100";
    assert_eq!(layers(file, &[], &[]).expect("valid").relay.page_rows, 100);
}

#[test]
fn a_value_of_the_wrong_type_or_outside_its_range_says_what_is_expected() {
    let message = refusal("[relay]\npage_rows = \"many\"", &[], &[]);
    assert!(message.starts_with("relay.page_rows from audit.toml: invalid type"), "{message}");
    let message = refusal("[relay]\nlease = \"soon\"", &[], &[]);
    assert!(message.contains("\"soon\" is not a duration such as"), "{message}");
    let message = refusal("", &[("AUDIT__CONSUMER__WORKERS", "0")], &[]);
    assert_eq!(
        message,
        "consumer.workers from the environment variable AUDIT__CONSUMER__WORKERS: must be 1 to 64, is 0"
    );
}

#[test]
fn the_applications_retention_is_optional_and_its_margin_lies_within_it() {
    assert_eq!(layers("", &[], &[]).expect("valid").source.retention, None);
    let variables = [("AUDIT__SOURCE__RETENTION", "90days")];
    let source = layers("", &variables, &["source.retention_margin=90days"]).expect("valid").source;
    assert_eq!(source.retention, Some(source.retention_margin));
    let message = refusal("", &variables, &["source.retention_margin=91days"]);
    assert!(message.starts_with("source.retention_margin from --set: must be 0s to 2months"), "{message}");
}

#[test]
fn broken_toml_names_the_line() {
    let message = refusal("[relay]\npage_rows = ", &[], &[]);
    assert!(message.starts_with("audit.toml is not valid TOML, line 2:"), "{message}");
}

#[test]
fn the_environment_reaches_into_the_list_of_forwarders() {
    let file = "[[forwarder]]\nid = \"a\"\nkind = \"noop\"";
    let settings = layers(file, &[("AUDIT__FORWARDER__0__KIND", "threadline")], &[]).expect("valid");
    assert_eq!(settings.forwarder[0].kind, "threadline");
    let message = refusal(file, &[("AUDIT__FORWARDER__1__KIND", "noop")], &[]);
    assert!(message.contains("no [[forwarder]] number 1"), "{message}");
}

#[test]
fn without_forwarders_everything_goes_into_the_timeline_and_an_empty_list_means_none() {
    assert_eq!(layers("", &[], &[]).expect("valid").forwarder[0].kind, "threadline");
    assert!(layers("forwarder = []", &[], &[]).expect("valid").forwarder.is_empty());
}

#[test]
fn forwarders_need_a_kind_a_known_dispatch_and_an_id_of_their_own() {
    let message = refusal("[[forwarder]]\nid = \"a\"", &[], &[]);
    assert!(message.contains("forwarder[0]") && message.contains("missing field `kind`"), "{message}");
    let message = refusal("[[forwarder]]\nid = \"a\"\nkind = \"noop\"\ndispatch = \"later\"", &[], &[]);
    assert!(message.contains("unknown variant `later`"), "{message}");
    let twice = "[[forwarder]]\nid = \"a\"\nkind = \"noop\"\n[[forwarder]]\nid = \"a\"\nkind = \"noop\"";
    let message = refusal(twice, &[], &[]);
    assert_eq!(message, "forwarder[1].id from audit.toml: the id \"a\" is taken by an earlier forwarder");
}

#[test]
fn urls_come_from_well_known_variables_and_neither_they_nor_headers_from_flags() {
    let settings = layers("", &[("NATS_URL", "nats://localhost:4222")], &[]).expect("valid");
    assert_eq!(settings.broker.url.expect("set").expose(), "nats://localhost:4222");
    assert!(layers("", &[("NATS_URL", "")], &[]).expect("valid").broker.url.is_none());
    let message = refusal("", &[], &["source.url=postgres://app:hunter2@db/prod"]);
    assert!(message.contains("process lists") && !message.contains("hunter2"), "{message}");
    let message = refusal("", &[], &["forwarder.0.headers.authorization=Bearer hunter2"]);
    assert!(message.contains("process lists") && !message.contains("hunter2"), "{message}");
}

#[test]
fn an_error_never_repeats_a_secret() {
    let message = refusal("", &[("SOURCE_DATABASE_URL", "app:hunter2 at db")], &[]);
    assert!(message.contains("source.url") && !message.contains("hunter2"), "{message}");
}

#[test]
fn a_variable_that_is_there_and_empty_means_none() {
    for name in [
        "NATS_URL",
        "AUDIT__BROKER__URL",
        "AUDIT__CONSUMER__WORKERS",
        "AUDIT__LOG__FILTER",
        "AUDIT__FORWARDER__0__KIND",
    ] {
        for value in ["", " ", "\n"] {
            let settings =
                layers("", &[(name, value)], &[]).unwrap_or_else(|error| panic!("{name}: {error}"));
            let (defaults, _) = Layers::default().build().expect("valid");
            assert_eq!(format!("{settings:?}"), format!("{defaults:?}"), "{name}");
        }
    }
}

#[test]
fn a_variable_of_ours_that_is_no_text_is_refused_and_those_of_others_are_left_alone() {
    use std::os::unix::ffi::OsStringExt as _;
    let broken = || OsString::from_vec(b"nats://\xff".to_vec());
    for (name, refused) in [("NATS_URL", true), ("AUDIT__BROKER__STREAM", true), ("LESSOPEN", false)] {
        let layers = Layers::default().environment([(name.into(), broken())]);
        assert_eq!(layers.is_err(), refused, "{name}");
    }
}

#[test]
fn the_variable_of_a_key_lies_over_the_well_known_one() {
    let variables = [("AUDIT__BROKER__URL", "nats://ours"), ("NATS_URL", "nats://everybodys")];
    let settings = layers("", &variables, &[]).expect("valid");
    assert_eq!(settings.broker.url.expect("set").expose(), "nats://ours");
}

#[test]
fn keys_that_lead_nowhere_say_what_is_wrong() {
    let one = "[[forwarder]]\nid = \"a\"\nkind = \"noop\"";
    for (file, key, expected) in [
        (
            "",
            "forwarder.0.kind",
            "there is no [[forwarder]] number 0: counted from 0, the settings file has 0",
        ),
        (
            one,
            "forwarder.1.kind",
            "there is no [[forwarder]] number 1: counted from 0, the settings file has 1",
        ),
        (one, "forwarder.a.kind", "\"a\" is no number of a [[forwarder]]"),
        (one, "forwarder.0", "one key of it at a time"),
        ("publisher = 5", "publisher.max_in_flight", "publisher is a value and holds no keys"),
        ("", "", "unknown field"),
        ("", "publisher", "invalid type"),
        ("", "publisher.max_in_flight.x", "invalid type"),
    ] {
        let variable = format!("AUDIT__{}", key.to_uppercase().replace('.', "__"));
        let message = refusal(file, &[(&variable, "5")], &[]);
        assert!(message.contains(expected) && message.contains(&variable), "{key}: {message}");
        let message = refusal(file, &[], &[&format!("{key}=5")]);
        assert!(message.contains(expected) && message.contains("--set"), "{key}: {message}");
    }
}

#[test]
fn a_value_from_the_environment_in_a_list_is_blamed_by_its_variable() {
    let file = "[[forwarder]]\nid = \"a\"\nkind = \"noop\"";
    let message = refusal(file, &[("AUDIT__FORWARDER__0__DISPATCH", "later")], &[]);
    assert!(message.contains("AUDIT__FORWARDER__0__DISPATCH"), "{message}");
}

#[test]
fn a_filter_of_logs_that_cannot_be_used_names_its_key() {
    for filter in ["info,=", "a=b=c", "common[", "info,publisher=loud"] {
        let message = refusal("", &[("AUDIT__LOG__FILTER", filter)], &[]);
        assert!(message.starts_with("log.filter from the environment variable"), "{filter}: {message}");
    }
}

#[test]
fn a_key_is_read_by_its_old_name_and_the_new_one_is_told() {
    for (old, new) in renamed::KEYS {
        let file = "[[forwarder]]\nid = \"timeline\"\nkind = \"threadline\"";
        let value = match new.rsplit_once('.').expect("a section").1 {
            "poll_min" => "5ms",
            "poll_max" => "70ms",
            "lease" | "interval" | "maintenance_interval" => "7s",
            "retention" => "7days",
            _ => "7",
        };
        let by_old = Layers::default()
            .text(file, "audit.toml")
            .and_then(|layers| layers.flag(&format!("{old}={value}")));
        let (settings, provenance) = by_old.and_then(Layers::build).expect(old);
        let by_new = layers(file, &[], &[&format!("{new}={value}")]).expect(new);
        assert_eq!(format!("{settings:?}"), format!("{by_new:?}"), "{old}");
        let told: Vec<String> = provenance.deprecations().collect();
        assert!(
            told.len() == 1 && told[0].starts_with(&format!("{old} from --set is called {new} now")),
            "{told:?}"
        );
    }
}

#[test]
fn an_old_value_is_read_with_a_warning_until_a_later_layer_sets_a_new_one() {
    let set = |flags: &[&str]| {
        let layers = Layers::default().text("[consumer]\nunknown_events = \"letters\"", "audit.toml");
        let layers = flags.iter().fold(layers, |layers, flag| layers.and_then(|layers| layers.flag(flag)));
        let (settings, provenance) = layers.and_then(Layers::build).expect("valid");
        (settings.consumer.unknown_events, provenance.deprecations().collect::<Vec<_>>())
    };
    let (events, warnings) = set(&[]);
    assert_eq!(events, UnknownEvents::DeadLetter);
    let expected = "consumer.unknown_events = \"letters\" from audit.toml is called \"dead_letter\" now";
    assert!(warnings.len() == 1 && warnings[0].starts_with(expected), "{warnings:?}");
    assert_eq!(set(&["consumer.unknown_events=hold"]), (UnknownEvents::Hold, Vec::new()));
    assert_eq!(set(&["consumer.unknown_events=dead_letter"]), (UnknownEvents::DeadLetter, Vec::new()));
}

#[test]
fn an_old_name_is_read_from_every_layer_and_refused_beside_the_new_one() {
    let settings =
        layers("[consumer]\nbreaker = 3", &[("AUDIT__CONSUMER__ATTEMPTS", "4")], &[]).expect("valid");
    assert_eq!((settings.consumer.max_dead_letters_per_minute, settings.consumer.max_attempts), (3, 4));
    let message = refusal("[consumer]\nbreaker = 3", &[], &["consumer.max_dead_letters_per_minute=4"]);
    assert_eq!(
        message,
        "consumer.max_dead_letters_per_minute from --set: is also set by its old name, consumer.breaker, from audit.toml: remove \
         that one"
    );
    let message = refusal("[publisher]\nwindow = 0", &[], &[]);
    assert!(message.starts_with("publisher.window from audit.toml: must be"), "{message}");
}

#[test]
fn a_secret_in_place_of_a_path_or_of_a_key_is_refused_and_not_shown() {
    let seed = "SUAM6BBSYFKMSVKL4XCOWXSOHIUEGQIV6CNOKEGGWYQ5GPUYNDIYDAVNFE";
    let file = format!("[broker]\nnkey_seed_file = \"{seed}\"");
    let flag = format!("broker.nkey_seed_file={seed}");
    for message in [
        refusal(&file, &[], &[]),
        refusal("", &[("AUDIT__BROKER__CREDENTIALS_FILE", seed)], &[]),
        refusal("", &[], &[&flag]),
        refusal("[broker]\ntls_key_file = \"-----BEGIN SUAM\"", &[], &[]),
        refusal("[source]\n\"postgres://u:SUAM@db/x\" = 1", &[], &[]),
        refusal("[[forwarder]]\nid = \"nats://u:SUAM@h\"\nkind = \"noop\"", &[], &[]),
    ] {
        assert!(!message.contains("SUAM"), "{message}");
    }
    assert!(
        refusal(&file, &[], &[]).contains("broker.nkey_seed_file from audit.toml: is the path of a file")
    );
}

#[test]
fn two_logins_at_the_broker_are_refused() {
    let file = "[broker]\nurl = \"nats://u:p@h\"\nnkey_seed_file = \"seed\"";
    let message = refusal(file, &[], &[]);
    assert!(message.contains("keep one of them"), "{message}");
}
