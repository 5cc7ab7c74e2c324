//! `powerfail serve` as front-ends meet it: a real driver over the real socket, clients that vanish, servers that are killed, and front-ends
//! that mean harm.

mod daemon;
mod front;
mod guest;
mod harming;
mod late;
mod leaving;
mod refusing;
mod restarting;
mod serving;
mod transport;
