//! The schema, as a list that only grows: what was released is never changed.

use rusqlite::{Connection, TransactionBehavior};

use super::conversations;

/// Each step leads from the schema version of its place to the next one, in one transaction.
const STEPS: &[&str] = &[include_str!("schema_1.sql"), include_str!("schema_2.sql")];

/// The schema version that this build writes.
pub(super) const NEWEST: usize = STEPS.len();

/// The fact that says the same as the version in the file's head, to tell a later version from a damaged one.
pub(super) const FACT: &str = "schema";

/// The schema version of a file; 0 where nothing was made in it yet.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<usize> {
    connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)).map(|version| {
        // A negative version is nobody's, so it counts as one that is not known.
        usize::try_from(version).unwrap_or(usize::MAX)
    })
}

/// Brings a file of an older version to the newest one. Two processes may try at once: the second one finds
/// the work done.
pub(super) fn run(connection: &mut Connection) -> rusqlite::Result<()> {
    while version(connection)? < NEWEST {
        let step = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let from = version(&step)?;
        if let Some(sql) = STEPS.get(from) {
            step.execute_batch(sql)?;
            conversations::set_fact(&step, FACT, &(from + 1).to_string())?;
            step.pragma_update(None, "user_version", (from + 1) as i64)?;
        }
        step.commit()?;
    }
    Ok(())
}
