//! Programs that attack a server at random, from both sides: a front-end that says anything, and a
//! guest that writes anywhere while it is served.
//!
//! After every few rounds a right client is served, and nothing of the host's is left over; at the
//! end SIGTERM ends the server. What is drawn is printed as a seed when something is wrong, and
//! POWERFAIL_ATTACK_SEED begins a run with it; threads race, so a seed may have to be tried more
//! than once.
//!
//! ```console
//! $ export POWERFAIL_ATTACK_SECONDS=1800
//! $ cargo test --release -p powerfail --test serve attack -- --nocapture
//! ```
//!
//! takes half an hour of each, and `POWERFAIL_SERVER=PATH` attacks a server that was built
//! otherwise, with AddressSanitizer for one:
//!
//! ```console
//! $ RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=target/address \
//!     cargo +nightly build --release --target x86_64-unknown-linux-gnu
//! $ POWERFAIL_SERVER=$PWD/target/address/x86_64-unknown-linux-gnu/release/powerfail \
//!     ASAN_OPTIONS=quarantine_size_mb=8 POWERFAIL_ATTACK_SECONDS=1800 \
//!     cargo test --release -p powerfail --test serve attack -- --nocapture
//! ```
//!
//! By default AddressSanitizer keeps 256 MiB of what was freed, which a look at the server's memory
//! cannot tell from memory that is lost.
//!
//! Not here: whether the disk keeps its promises to whoever is attacked beside; each front-end has
//! the server for itself.

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
