//! Exhaustive search within a scope: reductions lose no failure, every mutant is found, and the
//! command reports its results.

mod command;
mod reduction;
mod wrong;
