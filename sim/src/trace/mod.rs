//! Traces: runs as text.
mod line;
pub use line::request_name;
