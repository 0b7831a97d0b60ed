//! Columns of rows that may be damaged: what is of another kind than it should be counts as nothing, so that
//! one bad value never hides a conversation.

use jiff::Timestamp;
use rusqlite::Row;
use rusqlite::types::ValueRef;
use uuid::Uuid;

use super::conversations;

fn value<'r>(row: &'r Row<'_>, place: usize) -> ValueRef<'r> {
    row.get_ref(place).unwrap_or(ValueRef::Null)
}

/// Text, with a mark in the place of every byte that is none.
pub(super) fn text_if_any(row: &Row<'_>, place: usize) -> Option<String> {
    match value(row, place) {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Null => None,
    }
}

pub(super) fn text(row: &Row<'_>, place: usize) -> String {
    text_if_any(row, place).unwrap_or_default()
}

pub(super) fn whole(row: &Row<'_>, place: usize) -> Option<i64> {
    match value(row, place) {
        ValueRef::Integer(number) => Some(number),
        _ => None,
    }
}

/// A flag: set where it is a number other than 0.
pub(super) fn is_set(row: &Row<'_>, place: usize) -> bool {
    whole(row, place).is_some_and(|number| number != 0)
}

pub(super) fn real(row: &Row<'_>, place: usize) -> Option<f64> {
    match value(row, place) {
        ValueRef::Real(number) => Some(number),
        ValueRef::Integer(number) => Some(number as f64),
        _ => None,
    }
}

pub(super) fn bytes<'r>(row: &'r Row<'_>, place: usize) -> &'r [u8] {
    match value(row, place) {
        ValueRef::Blob(bytes) => bytes,
        _ => &[],
    }
}

pub(super) fn id(row: &Row<'_>, place: usize) -> Option<Uuid> {
    Uuid::from_slice(bytes(row, place)).ok()
}

/// The id of a row that has to show all the same: where it is damaged, one that only this row has.
pub(super) fn id_or_number(row: &Row<'_>, place: usize, number: i64) -> Uuid {
    id(row, place).unwrap_or_else(|| Uuid::from_u128(u128::from(number.unsigned_abs())))
}

pub(super) fn time(row: &Row<'_>, place: usize) -> Timestamp {
    conversations::time(whole(row, place).unwrap_or_default())
}
