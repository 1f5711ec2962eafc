//! In which direction a page goes.

/// To older entries, or to newer ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Older,
    Newer,
}

impl Direction {
    pub(super) fn order(self) -> &'static str {
        match self {
            Self::Older => "desc",
            Self::Newer => "asc",
        }
    }

    pub(super) fn beyond(self) -> &'static str {
        match self {
            Self::Older => " < ",
            Self::Newer => " > ",
        }
    }

    pub(super) fn from(self) -> &'static str {
        match self {
            Self::Older => " <= ",
            Self::Newer => " >= ",
        }
    }
}
