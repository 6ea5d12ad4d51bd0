//! Counts and times of tasks, from the index of lists and a few rows.

use rusqlite::{Connection, params};

use super::{codec, readers::ReadTrouble};
use crate::{
    model::TaskStatus,
    store::{KindStatistics, StatisticsQuery, TaskTimes},
};

/// The figures of the kinds that are asked for, by name.
pub(super) fn read(connection: &Connection, query: &StatisticsQuery) -> Result<Vec<KindStatistics>, ReadTrouble> {
    let mut select =
        connection.prepare_cached("SELECT id, name FROM kind WHERE ?1 IS NULL OR name = ?1 ORDER BY name")?;
    let kinds = select.query_map([&query.kind], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let kinds: Vec<(i64, String)> = kinds.collect::<Result<_, _>>()?;
    let mut all = Vec::with_capacity(kinds.len());
    for (id, name) in kinds {
        let mut counts = TaskStatus::ALL.map(|status| (status, 0));
        for (status, count) in &mut counts {
            *count = count_of(connection, id, *status, query.max_count)?;
        }
        all.push(KindStatistics { kind: name.into(), counts, times: times(connection, id, query.sample)? });
    }
    Ok(all)
}

fn count_of(connection: &Connection, kind: i64, status: TaskStatus, max_count: u64) -> rusqlite::Result<u64> {
    let mut select = connection.prepare_cached(
        "SELECT count(*) FROM (SELECT 1 FROM task INDEXED BY task_list WHERE kind = ?1 AND status = ?2 LIMIT ?3)",
    )?;
    let values = params![kind, status.to_i64(), codec::signed(max_count)];
    Ok(codec::unsigned(select.query_row(values, |row| row.get(0))?))
}

fn times(connection: &Connection, kind: i64, sample: usize) -> rusqlite::Result<Vec<TaskTimes>> {
    let mut select = connection.prepare_cached(
        "SELECT started_at - run_at, completed_at - started_at FROM task INDEXED BY task_list \
         WHERE kind = ?1 AND status = ?2 AND started_at IS NOT NULL AND completed_at IS NOT NULL \
         ORDER BY id DESC LIMIT ?3",
    )?;
    let limit = i64::try_from(sample).unwrap_or(i64::MAX);
    let rows = select.query_map(params![kind, TaskStatus::Completed.to_i64(), limit], |row| {
        Ok(TaskTimes { waited_ms: codec::unsigned(row.get(0)?), ran_ms: codec::unsigned(row.get(1)?) })
    })?;
    rows.collect()
}
