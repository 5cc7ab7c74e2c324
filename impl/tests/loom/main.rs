//! What the queues of a device share, claim by claim, under every order in which their threads can
//! take turns.
//!
//! ```text
//! export CARGO_TARGET_DIR=target/loom
//! RUSTFLAGS="--cfg loom" cargo test -p powerfail-device --test loom -- --nocapture
//! impl/tests/loom/twins/run    # each claim against code with one fault
//! export CARGO_TARGET_DIR=target/shuttle
//! RUSTFLAGS="--cfg shuttle" cargo test -p powerfail-device --test loom -- --nocapture
//! ```
//!
//! At night, longer: `LOOM_MAX_PREEMPTIONS=4` before the first, which replaces the bound of every
//! claim that has one, and `SHUTTLE_SCHEDULES=1000000` before the last. Each run prints what it
//! did.
//!
//! # What covers what
//!
//! - **loom** covers the *memory order* of state of ours that threads share, all of it behind
//!   `src/sync.rs`: the gate, the range locks, the cache mode, the helm. It tries every
//!   interleaving of their accesses and every value that a load may return, up to the bound. Two
//!   exceptions: it takes `SeqCst` loads and stores for acquire and release (there are none here,
//!   only fences), and with a bound on preemptions it leaves out the executions that need more.
//! - **shuttle** covers more threads than loom can finish, with the same code: schedules at random,
//!   all atomics in one order.
//! - **The simulator's seeds** cover the *order of events*, which no thread is needed for: which
//!   request, completion, kick, reset or power cut comes first, with the queues stepped on one
//!   thread.
//! - **None of them** covers the ring itself: the atomics of `virtio-queue` on guest memory, and
//!   the driver's on the other side. Here a ring is touched by whoever has the helm only, and the
//!   pairing with the driver is argued where the fences are (`queue/answer`, `queue/ring`). Nor do
//!   they cover the event descriptors and the epoll of the server, in whose place there is a bell
//!   with a lock.
//!
//! # What was tried
//!
//! With two threads everything, with three up to the stated number of preemptions; under shuttle as
//! many schedules as stated. Seconds are those of two shared cores.
//!
//! ```text
//! claim                                               threads  bound   executions  seconds  twins
//! gate: every flush ends, covered by a later sync           2  -           89,933     17.0      3
//!                                                           3  2            2,159      0.8
//!                                                           4  shuttle     20,000      6.5
//! gate: a failed sync is seen by all                        2  -           62,231     11.6      1
//!   one lane's syncs fail                                   2  -          127,692     23.8
//!   one of four                                             4  shuttle     20,000      4.0
//! helm: no wake is missed; a mark brings what moved         2  -               54      0.0      3
//!                                                           3  3            9,188      1.7
//!                                                           6  shuttle     20,000      0.8
//! helm: taken, it is whole; given back, it goes on          2  -              134      0.0      1
//!                                                           3  3           13,726      2.5
//!                                                           6  shuttle     20,000      1.0
//! helm: a drain hears what was meant for its thread         2  -              125      0.0      2
//!                                                           3  3            4,996      1.1
//! drain: waits for completions of the host's thread         3  2              712      0.2      1
//!                                                           3  shuttle     20,000      1.7
//! reset: answers nothing, is idle when it is over           3  2              709      0.2      2
//!                                                           3  shuttle     20,000      1.7
//! save: no request lost or repeated                         2  -              576      0.2      1
//!                                                           2  shuttle     20,000      2.3
//! locks: parts of one granule are all kept                  2  -              385      0.1      2
//!                                                           3  2              221      0.2
//!                                                           4  shuttle      5,000      1.7
//! modes: stable between two reads of 0, to write-back       2  -               43      0.0      2
//!                                                           3  3            2,764      0.5
//! modes: stable after 0 was read, to write-through          2  -               49      0.0      1
//!                                                           3  3            3,118      0.6
//! modes: features come after their mode                     2  -               20      0.0      1
//! ```
//!
//! Twins are the patches in `twins/`, which make the shipped code wrong; each names the claim that
//! has to fail and what it has to say. Not here: that the thread of a queue gives way soon. It
//! looks whether its helm is wanted before every step, but a model has no time.
#![cfg(any(loom, shuttle))]

mod explore;
mod flush_group;
mod lifecycle;
mod locks;
#[cfg(loom)]
mod modes;
mod queue;
mod wakeup;
mod worker_lock;
