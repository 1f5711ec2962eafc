//! What a browser remembers of how it likes the surface: in cookies, which hold nothing else.

use axum::http::{HeaderMap, HeaderValue, header};
use jiff::tz::TimeZone;

/// How the surface looks.
#[derive(Debug, Clone)]
pub(crate) struct Preferences {
    pub(crate) theme: Theme,
    /// The zone that times are shown in, by its IANA name.
    pub(crate) zone: TimeZone,
    pub(crate) is_dense: bool,
}

/// Which colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Theme {
    /// As the browser's system has it.
    System,
    Dark,
    Light,
}

impl Theme {
    pub(crate) const ALL: [Self; 3] = [Self::System, Self::Dark, Self::Light];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Dark => "dark",
            Self::Light => "light",
        }
    }
}

const THEME: &str = "threadline_theme";
const ZONE: &str = "threadline_zone";
const DENSITY: &str = "threadline_density";

/// A year.
const AGE: u32 = 31_536_000;

impl Preferences {
    /// Of a request. What is no theme or zone is the default.
    pub(crate) fn read(headers: &HeaderMap) -> Self {
        let value = |name| cookie(headers, name);
        Self {
            theme: theme(value(THEME).as_deref()).unwrap_or(Theme::System),
            zone: value(ZONE).and_then(|name| TimeZone::get(&name).ok()).unwrap_or(TimeZone::UTC),
            is_dense: value(DENSITY).as_deref() == Some("dense"),
        }
    }

    /// The name of the zone.
    pub(crate) fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    /// The cookies that make a browser remember what was chosen; what is not known is left as it was.
    pub(crate) fn cookies(chosen: impl Fn(&str) -> Option<String>, is_secure: bool) -> Vec<HeaderValue> {
        let theme =
            chosen("theme").and_then(|name| theme(Some(&name))).map(|theme| theme.as_str().to_owned());
        let zone = chosen("zone").filter(|name| TimeZone::get(name).is_ok());
        let density = chosen("density").filter(|name| matches!(name.as_str(), "dense" | "roomy"));
        let secure = if is_secure { "; Secure" } else { "" };
        [(THEME, theme), (ZONE, zone), (DENSITY, density)]
            .into_iter()
            .filter_map(|(name, value)| {
                let cookie = format!("{name}={}; Max-Age={AGE}; SameSite=Lax; HttpOnly{secure}", value?);
                HeaderValue::from_str(&cookie).ok()
            })
            .collect()
    }
}

fn theme(name: Option<&str>) -> Option<Theme> {
    Theme::ALL.into_iter().find(|theme| Some(theme.as_str()) == name)
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value.to_owned())
}
