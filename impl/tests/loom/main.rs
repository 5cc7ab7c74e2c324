//! State that the queues of a device share, claim by claim, under every interleaving of their
//! threads.
//!
//! ```text
//! export CARGO_TARGET_DIR=target/loom
//! RUSTFLAGS="--cfg loom" cargo test -p powerfail-device --test loom -- --nocapture
//! impl/tests/loom/twins/run    # each claim against code with one fault
//! export CARGO_TARGET_DIR=target/shuttle
//! RUSTFLAGS="--cfg shuttle" cargo test -p powerfail-device --test loom -- --nocapture
//! ```
//!
//! For longer runs set `LOOM_MAX_PREEMPTIONS=4` before the first, which replaces the bound of every
//! claim that has one, and `SHUTTLE_SCHEDULES=1000000` before the last. Each run prints its
//! statistics.
//!
//! # Coverage
//!
//! - **loom** covers the *memory order* of the device's shared state, all of it behind
//!   `src/sync.rs`: the flush group, the range locks, the cache mode, the worker lock. It tries
//!   every interleaving of their accesses and every value that a load may return, up to the bound.
//!   Two exceptions: it treats `SeqCst` loads and stores as acquire and release (there are none
//!   here, only fences), and with a bound on preemptions it leaves out the executions that need
//!   more.
//! - **shuttle** covers more threads than loom can finish, with the same code: random schedules,
//!   with all atomics in one order.
//! - **The simulator's seeds** cover the *order of events*, which needs no threads: the order of
//!   requests, completions, kicks, resets and power cuts, with the queues stepped on one thread.
//! - **None of them** covers the ring itself: the atomics of `virtio-queue` on guest memory, and
//!   those of the driver. Here only the holder of the worker lock accesses a ring, and the comments
//!   at the fences argue the pairing with the driver (`queue/answer`, `queue/ring`). Nor do they
//!   cover the server's event descriptors and its epoll, which are replaced by a wakeup with a
//!   lock.
//!
//! # Results
//!
//! With two threads all executions, with three up to the stated number of preemptions; under
//! shuttle as many schedules as stated. Seconds are those of two shared cores.
//!
//! ```text
//! claim                                               threads  bound   executions  seconds  twins
//! flush group: flushes end, covered by a later sync         2  -           89,933     17.0      3
//!                                                           3  2            2,159      0.8
//!                                                           4  shuttle     20,000      6.5
//! flush group: a failed sync is seen by all                 2  -           62,231     11.6      1
//!   one lane's syncs fail                                   2  -          127,692     23.8
//!   one of four                                             4  shuttle     20,000      4.0
//! worker lock: no wake is missed; marks order data          2  -               54      0.0      3
//!                                                           3  3            9,188      1.7
//!                                                           6  shuttle     20,000      0.8
//! worker lock: taken, exclusive; worker resumes later       2  -              134      0.0      1
//!                                                           3  3           13,726      2.5
//!                                                           6  shuttle     20,000      1.0
//! worker lock: a drain gets the wakes of its worker         2  -              125      0.0      2
//!                                                           3  3            4,996      1.1
//! drain: waits for completions of the host's thread         3  2              712      0.2      1
//!                                                           3  shuttle     20,000      1.7
//! reset: answers no request, is idle when it is over        3  2              709      0.2      2
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
//! Twins are the patches in `twins/`, each of which breaks the shipped code and names the claim
//! that must fail, with its message. Not here: that a worker yields its lock soon. It checks before
//! every step whether the lock is wanted, but a model has no time.
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
