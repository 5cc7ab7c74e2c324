//! Every schedule up to a scope: that nothing is lost by what makes the search small, that
//! everything wrong is found, and that the command says what it did.

mod command;
mod reduction;
mod wrong;
