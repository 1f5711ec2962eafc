//! What has been kept long enough is deleted. The row stays: it says what was handed over.

use std::{collections::HashSet, fs, path::PathBuf};

use serde::Serialize;
use sqlx::Row as _;
use uuid::Uuid;

use super::{
    JobError, TABLE,
    claim::GENERATIONS_MAX,
    list::transact,
    request::Stored,
    steps::{Names, file_name},
    worker::Worker,
};
use crate::{export::files::Files, query::Statement, telemetry::jobs as events};

/// Jobs that one run looks at.
const JOBS: i64 = 100;

/// Files of the worker's folder that one run looks at.
const FILES: usize = 1_000;

/// What a run has deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Cleaned {
    /// Jobs of which nothing is stored any longer.
    pub deleted: u64,
    /// Jobs of which something could not be deleted; their rows say why, and the next run tries again.
    pub kept: u64,
}

/// A job whose time is over.
struct Over {
    id: Uuid,
    status: String,
    generation: i32,
    request: String,
    /// Whether an attempt came so far as to store something.
    is_stored: bool,
}

impl Worker {
    /// Deletes what jobs of ours have stored whose time is over, up to a hundred of them, and files of jobs that have ended from the worker's folder.
    ///
    /// # Errors
    /// What the database says. What a storage says stands in the row of the job.
    pub async fn clean(&self) -> Result<Cleaned, JobError> {
        let mut cleaned = Cleaned::default();
        for over in self.over().await? {
            match self.delete(&over).await {
                Ok(()) => {
                    self.expired(&over).await?;
                    cleaned.deleted += 1;
                    events::expired(over.id);
                }
                Err(error) => {
                    self.kept(&over, &error).await?;
                    cleaned.kept += 1;
                    events::not_deleted(over.id, error.kind());
                }
            }
        }
        self.tidy().await?;
        Ok(cleaned)
    }

    async fn over(&self) -> Result<Vec<Over>, JobError> {
        let mut statement = Statement::new(format!(
            "select id, status, coalesce(generation, 0), request::text, location is not null from {} where request is not null and holder is null
             and status in ('completed', 'failed', 'cancelled') and keep_until < clock_timestamp() order by updated_at, id limit ",
            self.timeline().schema().table(TABLE)
        ));
        statement.bind(JOBS);
        let rows = transact(self.timeline(), &statement).await?;
        let over = rows.iter().map(|row| {
            Ok(Over {
                id: row.try_get(0)?,
                status: row.try_get(1)?,
                generation: row.try_get(2)?,
                request: row.try_get(3)?,
                is_stored: row.try_get(4)?,
            })
        });
        Ok(over.collect::<Result<_, sqlx::Error>>()?)
    }

    /// Every attempt may have left something.
    async fn delete(&self, over: &Over) -> Result<(), JobError> {
        if !over.is_stored {
            return Ok(());
        }
        if !(0..=GENERATIONS_MAX).contains(&over.generation) {
            return Err(JobError::attempts_invalid());
        }
        let stored = Stored::read(&over.request)?;
        let storage = self.storage_at(&stored.storage)?;
        for generation in 1..=over.generation {
            for name in Names::of(over.id, generation, stored.options.format).all() {
                storage.delete(name).await?;
            }
        }
        Ok(())
    }

    async fn expired(&self, over: &Over) -> Result<(), JobError> {
        let set = "status = case status when 'completed' then 'expired' else status end,
                   error_message = case status when 'completed' then null else error_message end, keep_until = null";
        let statement = Statement::new(format!("update {} set {set}", self.timeline().schema().table(TABLE)));
        self.change(statement, over).await
    }

    async fn kept(&self, over: &Over, error: &JobError) -> Result<(), JobError> {
        let mut statement = Statement::new(format!(
            "update {} set error_message = case status when 'completed' then ",
            self.timeline().schema().table(TABLE)
        ));
        statement.bind(format!("not deleted: {}", error.words())).push(" else error_message end");
        self.change(statement, over).await
    }

    async fn change(&self, mut statement: Statement, over: &Over) -> Result<(), JobError> {
        statement.push(", updated_at = clock_timestamp() where keep_until < clock_timestamp() and status = ");
        statement.bind(over.status.as_str()).push(" and id = ").bind(over.id);
        transact(self.timeline(), &statement).await?;
        Ok(())
    }

    /// Files of jobs that have ended: those that a worker makes, by their whole names, and no other ones. Those of a job that this database does not
    /// know may be another one's.
    async fn tidy(&self) -> Result<(), JobError> {
        let Ok(folder) = fs::read_dir(self.directory()) else { return Ok(()) };
        let files: Vec<(Uuid, PathBuf)> = folder
            .filter_map(|file| {
                let file = file.ok()?;
                let id = file.file_name().to_str()?.split_once('.')?.0.parse().ok()?;
                Some((id, file.path()))
            })
            .take(FILES)
            .collect();
        if files.is_empty() {
            return Ok(());
        }
        let mut statement = Statement::new(format!(
            "select id, request->'options'->>'format' from {} where request is not null and status not in ('pending', 'running')
             and holder is null and id = any (",
            self.timeline().schema().table(TABLE)
        ));
        statement.bind(files.iter().map(|(id, _)| *id).collect::<Vec<Uuid>>()).push(")");
        let mut made = HashSet::new();
        for row in transact(self.timeline(), &statement).await? {
            let (id, format): (Uuid, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
            if let Some(format) = format.and_then(|format| format.parse().ok()) {
                made.extend(Files::of(&self.directory().join(file_name(id, format))).all());
            }
        }
        for (_, path) in files.iter().filter(|(_, path)| made.contains(path)) {
            // A worker makes no link.
            if fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
                let _ = fs::remove_file(path);
            }
        }
        Ok(())
    }
}
