//! The pages of the pipeline in a build without them.

use crate::{
    asked::{Answered, Asked},
    failure::Failure,
};

#[expect(clippy::unused_async, reason = "as the pages are")]
pub(crate) async fn page(_: Asked) -> Answered {
    Err(Failure::unusable(
        "pipeline_missing",
        "This program was built without the pages of the pipeline (the cargo feature `pipeline`): `publisher status` and \
         `consumer status` show the same.",
    ))
}

pub(crate) mod act {
    pub(crate) use super::page;
}
pub(crate) mod event {
    pub(crate) use super::page;
}
pub(crate) mod failure {
    pub(crate) use super::page;
}
pub(crate) mod failures {
    pub(crate) use super::page;
}
pub(crate) mod redrive {
    pub(crate) use super::{page, page as run};
}
