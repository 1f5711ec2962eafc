//! Ends an export of one's own that is not made yet.

use threadline::export::jobs;

use super::own_one;
use crate::{
    answer::Answer,
    asked::{Answered, Asked},
};

pub(crate) async fn run(asked: Asked) -> Answered {
    let id = asked.id()?;
    own_one(&asked, id).await?;
    let action = asked.action("audit.export_cancelled").verb("cancel").job_id(id.to_string());
    let mut act = asked.act(action).await?;
    jobs::cancel_within(&mut act.transaction, &asked.shared.schema, id).await?;
    let act = act.done().await?;
    let link = asked.links.with("exports", &[("act", &act.to_string())]);
    Ok(Answer::to(link))
}
