//! Random attacks on a server, from both sides: a front-end that sends anything, and a guest that
//! writes anywhere while it is served.
//!
//! After every few rounds a correct client is served, and the server holds no more host resources
//! than before; at the end SIGTERM ends the server. A failure prints the seed of the choices, and
//! POWERFAIL_ATTACK_SEED begins a run with it. Threads race, so a seed may have to be tried more
//! than once.
//!
//! ```console
//! $ export POWERFAIL_ATTACK_SECONDS=1800
//! $ cargo test --release -p powerfail --test serve attack -- --nocapture
//! ```
//!
//! runs half an hour of each, and `POWERFAIL_SERVER=PATH` attacks another build of the server, for
//! example with AddressSanitizer:
//!
//! ```console
//! $ RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=target/address \
//!     cargo +nightly build --release --target x86_64-unknown-linux-gnu
//! $ POWERFAIL_SERVER=$PWD/target/address/x86_64-unknown-linux-gnu/release/powerfail \
//!     ASAN_OPTIONS=quarantine_size_mb=8 POWERFAIL_ATTACK_SECONDS=1800 \
//!     cargo test --release -p powerfail --test serve attack -- --nocapture
//! ```
//!
//! By default AddressSanitizer keeps 256 MiB of freed memory, which a check of the server's memory
//! cannot distinguish from a leak.
//!
//! Not here: the promises of the disk to another client during an attack; each front-end has the
//! server alone.

mod conversation;
mod descriptors;
mod draws;
mod field;
mod front_end;
mod mad_guest;
mod own_end;
pub(crate) mod protocol;
mod right;
mod watch;
