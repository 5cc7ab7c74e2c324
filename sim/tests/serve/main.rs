//! `powerfail serve` from a front-end's view: a real driver over the real socket, clients that
//! vanish, servers that are killed, and malicious front-ends.
//!
//! By default the endurance tests run a few hundred repetitions. The full count takes a few minutes
//! and prints its statistics:
//!
//! ```console
//! $ POWERFAIL_CONNECTIONS=10000 POWERFAIL_KILLS=1000 POWERFAIL_CUTS=1000 \
//!     cargo test -p powerfail --test serve --test power_cuts -- --nocapture
//! ```

mod attack;
mod calling;
mod cutting;
mod daemon;
mod front;
mod growing;
mod guest;
mod harming;
#[path = "../judged/mod.rs"]
mod judged;
mod late;
mod leaving;
mod limits;
mod lives;
mod locking;
mod logging;
mod port;
mod reconnecting;
mod refusing;
mod restarting;
mod resubmitting;
mod serving;
mod sizes;
mod transport;
mod verdicts;
