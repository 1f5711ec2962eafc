//! `docs/limits.md` is held to the code: each constant that it names exists and has the value that it says, and each setting
//! has that default.

use std::{fs, path::Path};

/// A constant, the file that it is in, and its expression.
struct Definition {
    name: String,
    file: String,
    expression: String,
}

fn definitions() -> Vec<Definition> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    for krate in ["common", "consumer", "operator", "publisher", "threadline"] {
        collect(&root.join(krate).join("src"), &mut found);
    }
    found
}

fn collect(folder: &Path, found: &mut Vec<Definition>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            for part in text.split("const ").skip(1) {
                let Some((head, _)) = part.split_once(';') else { continue };
                let Some((name, rest)) = head.split_once(':') else { continue };
                let Some((_, expression)) = rest.split_once('=') else { continue };
                let expression = expression.trim().trim_start_matches("std::time::").to_owned();
                let name = name.to_owned();
                found.push(Definition { name, file: path.display().to_string(), expression });
            }
        }
    }
}

/// How a value may stand in the page: of a number of seconds also in minutes, hours or days; of bytes also in KiB or MiB.
fn renderings(expression: &str, all: &[Definition]) -> Vec<String> {
    if let Some(other) = all.iter().find(|definition| definition.name == expression) {
        return renderings(&other.expression, all);
    }
    let inside = |call: &str| expression.strip_prefix(call)?.strip_suffix(')');
    if let Some(seconds) = inside("Duration::from_secs(") {
        return times(number(seconds) * 1_000.0);
    }
    if let Some(millis) = inside("Duration::from_millis(") {
        return times(number(millis));
    }
    if let Some(millis) = expression.trim_matches('"').strip_suffix("ms") {
        return times(number(millis));
    }
    if let Some(seconds) = expression.trim_matches('"').strip_suffix('s') {
        return times(number(seconds) * 1_000.0);
    }
    let value = number(expression);
    let kib = value / 1_024.0;
    vec![
        grouped(value),
        format!("{} KiB", grouped(kib)),
        format!("{} MiB", grouped(kib / 1_024.0)),
        format!("{} GiB", grouped(kib / 1_048_576.0)),
    ]
}

fn number(text: &str) -> f64 {
    let text = text.replace('_', "");
    if let Some((value, bits)) = text.split_once("<<") {
        return number(value.trim()) * 2_f64.powf(number(bits.trim()));
    }
    text.split('*').map(|factor| factor.trim().parse::<f64>().unwrap_or(f64::NAN)).product()
}

fn times(millis: f64) -> Vec<String> {
    let units =
        [("ms", 1.0), ("s", 1e3), ("minutes", 6e4), ("hour", 3.6e6), ("hours", 3.6e6), ("day", 8.64e7)];
    units.iter().map(|(unit, size)| format!("{} {unit}", grouped(millis / size))).collect()
}

/// With commas between thousands, as the page has them.
fn grouped(value: f64) -> String {
    let text = format!("{value}");
    let (whole, fraction) =
        text.split_once('.').map_or((text.as_str(), None), |(whole, rest)| (whole, Some(rest)));
    let mut digits = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            digits.push(',');
        }
        digits.push(digit);
    }
    fraction.map_or(digits.clone(), |fraction| format!("{digits}.{fraction}"))
}

/// Whether one of the values stands in the text, not as a part of a larger number.
fn says(text: &str, values: &[String]) -> bool {
    values.iter().any(|value| {
        text.match_indices(value.as_str()).any(|(at, _)| {
            let before = text[..at].chars().next_back();
            let after = text[at + value.len()..].chars().next();
            let of_number = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == ',';
            !before.is_some_and(|c| c.is_ascii_digit() || c == ',' || c == '.')
                && !after.is_some_and(|c| of_number(c) && c != ',' && c != '.')
        })
    })
}

/// The words in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_limit_that_the_page_names_is_the_one_in_the_code() {
    let all = definitions();
    let page = include_str!("../../docs/limits.md");
    let mut checked = 0;
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| what |")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let (limit, place) = (cells[2], cells[3]);
        for named in quoted(place) {
            let (module, name) = named.rsplit_once("::").unwrap_or(("", named));
            if name.len() < 4 || !name.chars().all(|c| c.is_ascii_uppercase() || c == '_') {
                continue;
            }
            let candidates: Vec<&Definition> =
                all.iter().filter(|one| one.name == name && one.file.contains(module)).collect();
            assert!(!candidates.is_empty(), "{named} is no constant of {module:?}: {row}");
            let holds = candidates.iter().any(|one| says(limit, &renderings(&one.expression, &all)));
            let expressions: Vec<&str> = candidates.iter().map(|one| one.expression.as_str()).collect();
            assert!(holds, "{named} is {expressions:?}: {row}");
            checked += 1;
        }
    }
    assert!(checked > 40, "only {checked} constants were found in the page");
}

#[test]
fn every_setting_that_the_page_names_has_the_default_that_it_says() {
    let configuration = include_str!("../../docs/configuration.md");
    let page = include_str!("../../docs/limits.md");
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| what |")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let (limit, place) = (cells[2], cells[3]);
        let settings = ["relay.", "publisher.", "consumer.", "operator.", "broker.", "source."];
        for key in quoted(place).filter(|key| settings.iter().any(|section| key.starts_with(section))) {
            let documented = configuration.lines().find(|line| line.starts_with(&format!("| `{key}` |")));
            let documented = documented.unwrap_or_else(|| panic!("{key} is no setting: {row}"));
            // Beside a constant, a setting only bounds it further.
            if quoted(place).count() == 1 && limit.contains(|c: char| c.is_ascii_digit()) {
                let default = quoted(documented).nth(1).unwrap();
                assert!(says(limit, &renderings(default, &[])), "{key} is {default}: {row}");
            }
        }
    }
}
