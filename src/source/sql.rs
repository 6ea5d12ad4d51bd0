//! Rows of an SQL query.
