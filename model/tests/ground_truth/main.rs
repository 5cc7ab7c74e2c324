//! The oracle against the ground truth, over every history within bounds: no false alarm, no miss.
//!
//! The ground truth ([`worlds`]) contains no graph: it keeps every state that an honest disk could
//! be in.

mod failing_host;
mod history;
mod search;
mod worlds;

use failing_host::FailingHost;
use powerfail_model::Profile;
use search::{Bounds, Found, Mode, stroll, walk};
use worlds::{Truth, Worlds};

/// Walks and asserts agreement.
fn agree(name: &str, bounds: Bounds) -> Found {
    agreed(name, walk::<Worlds>(bounds))
}

fn agreed(name: &str, found: Found) -> Found {
    println!(
        "{name}: {} nodes, {} right reads, {} wrong reads, {} false alarms, {} misses",
        found.nodes, found.reads_right, found.reads_wrong, found.false_alarms, found.misses
    );
    let example = found.example.clone().unwrap_or_default().join("; ");
    assert_eq!((found.false_alarms, found.misses), (0, 0), "{name}: {example}");
    found
}

/// As [`agree`], with the number of nodes that the original enumeration walked at these bounds.
fn agree_as_found(name: &str, bounds: Bounds, nodes: u64) {
    assert_eq!(agree(name, bounds).nodes, nodes, "{name}");
}

#[test]
fn the_enumeration_in_which_the_rule_was_found() {
    let read_loss = |bounds| Bounds { losses_read: 1, ..bounds };
    agree_as_found("2 writes, 1 read, 1 flush, 1 loss", read_loss(Bounds::new(2, 1, 1)), 135_650);
    agree_as_found("2 writes, 2 reads, 1 loss", read_loss(Bounds::new(2, 2, 0)), 133_598);
    let reset = Bounds { resets: 1, errors: false, ..read_loss(Bounds::new(2, 1, 1)) };
    agree_as_found("2 writes, 1 read, 1 flush, 1 loss, 1 reset", reset, 193_953);
    agree_as_found("3 writes, 1 read, 1 loss", read_loss(Bounds::new(3, 1, 0)), 121_275);
    let through = Bounds { mode: Mode::WriteThrough, ..read_loss(Bounds::new(2, 2, 0)) };
    agree_as_found("the same, write-through", through, 110_531);
}

#[test]
fn a_kill_of_a_healthy_backend_is_a_reset() {
    let kill = Bounds { kills: 1, errors: false, losses_read: 1, ..Bounds::new(2, 1, 1) };
    agree_as_found("2 writes, 1 read, 1 flush, 1 loss, 1 kill", kill, 193_953);
}

#[test]
fn refusing_flush_is_writing_through() {
    let bounds = Bounds { mode: Mode::Flushless, losses_read: 1, ..Bounds::new(2, 2, 0) };
    agree_as_found("2 writes, 2 reads, 1 loss, flushless", bounds, 110_531);
}

#[test]
fn an_image_stays_unknown_until_it_is_read() {
    agree("2 writes, 2 reads, a loss unread", Bounds { losses: 1, ..Bounds::new(2, 2, 0) });
    agree(
        "2 writes, 1 read, 1 flush, 2 losses unread",
        Bounds { losses: 2, errors: false, ..Bounds::new(2, 1, 1) },
    );
    agree(
        "1 write, 2 reads, 1 flush, 2 losses unread",
        Bounds { losses: 2, ..Bounds::new(1, 2, 1) },
    );
}

#[test]
fn zeroes_may_come_from_anyone_who_wrote_them() {
    agree(
        "2 zeroes, 2 reads, 1 loss",
        Bounds { losses_read: 1, ..Bounds::new(0, 2, 0).zeroes(2, 0) },
    );
    agree(
        "1 write, 1 discard, 2 reads, 1 loss",
        Bounds { losses_read: 1, ..Bounds::new(1, 2, 0).zeroes(0, 1) },
    );
    agree(
        "1 zeroes, 1 discard, 2 reads, 1 loss",
        Bounds { losses_read: 1, ..Bounds::new(0, 2, 0).zeroes(1, 1) },
    );
    agree("3 zeroes, 2 reads", Bounds { errors: false, ..Bounds::new(0, 2, 0).zeroes(3, 0) });
    agree(
        "1 write, 1 zeroes, 1 discard, 2 reads",
        Bounds { errors: false, ..Bounds::new(1, 2, 0).zeroes(1, 1) },
    );
    agree(
        "1 write, 1 zeroes, 1 read, 1 flush, 1 loss",
        Bounds { losses: 1, ..Bounds::new(1, 1, 1).zeroes(1, 0) },
    );
    agree(
        "1 zeroes, 1 discard, 1 read, 1 flush, 2 losses",
        Bounds { losses: 2, errors: false, ..Bounds::new(0, 1, 1).zeroes(1, 1) },
    );
}

#[test]
fn the_cache_mode_may_change_in_flight() {
    agree(
        "2 writes, 1 read, 2 toggles, 1 loss",
        Bounds { toggles: 2, losses_read: 1, errors: false, ..Bounds::new(2, 1, 0) },
    );
    agree(
        "1 write, 1 flush, 2 toggles, 1 loss",
        Bounds { toggles: 2, losses_read: 1, ..Bounds::new(1, 0, 1) },
    );
}

#[test]
fn a_write_in_the_hands_of_two_backends_takes_effect_in_each() {
    let plain = |bounds| Bounds { reconnects: 1, ..bounds };
    agree("2 writes, 2 reads, 1 reconnect", plain(Bounds::new(2, 2, 0)));
    agree("1 write, 3 reads, 1 reconnect", plain(Bounds::new(1, 3, 0)));
    agree(
        "2 writes, 1 read, 1 flush, 1 loss, 1 reconnect",
        plain(Bounds { losses_read: 1, errors: false, ..Bounds::new(2, 1, 1) }),
    );
    agree(
        "1 write, 2 reads, 1 flush, 1 loss unread, 1 reconnect",
        plain(Bounds { losses: 1, ..Bounds::new(1, 2, 1) }),
    );
    agree(
        "2 writes, 1 read, 1 loss, 1 reconnect, write-through",
        plain(Bounds { mode: Mode::WriteThrough, losses_read: 1, ..Bounds::new(2, 1, 0) }),
    );
    agree(
        "1 write, 2 reads, 1 reset, 2 reconnects",
        Bounds { resets: 1, reconnects: 2, ..Bounds::new(1, 2, 0) },
    );
    agree(
        "1 zeroes, 1 discard, 2 reads, 1 reconnect",
        plain(Bounds { errors: false, ..Bounds::new(0, 2, 0).zeroes(1, 1) }),
    );
    agree(
        "1 write, 1 zeroes, 1 read, 1 loss, 1 reconnect",
        plain(Bounds { losses_read: 1, errors: false, ..Bounds::new(1, 1, 0).zeroes(1, 0) }),
    );
    for mode in [Mode::WriteBack, Mode::WriteThrough] {
        let bounds = Bounds { mode, losses: 1, reconnects: 2, toggles: 1, ..Bounds::new(4, 5, 2) };
        agreed(
            "4 writes, 5 reads, 2 flushes, 1 loss, 2 reconnects, at random",
            stroll::<Worlds>(bounds, 6_000),
        );
        let zeroes = Bounds { kills: 1, ..bounds };
        agreed(
            "2 writes, 2 zeroes, 1 discard, 5 reads, 1 loss, 1 kill, 2 reconnects, at random",
            stroll::<Worlds>(Bounds { ops: [2, 2, 1, 5, 1], ..zeroes }, 6_000),
        );
    }
}

#[test]
fn a_backend_that_dies_on_a_failing_host_raises_no_false_alarm() {
    for (name, bounds) in [
        ("1 write, 2 reads, 1 flush, 1 reconnect", Bounds::new(1, 2, 1)),
        (
            "1 write, 1 read, 2 flushes, 1 loss, 1 reconnect",
            Bounds { losses_read: 1, ..Bounds::new(1, 1, 2) },
        ),
        ("2 writes, 1 read, 1 flush, 1 reconnect", Bounds::new(2, 1, 1)),
        (
            "2 writes, 1 read, 1 reconnect, write-through",
            Bounds { mode: Mode::WriteThrough, ..Bounds::new(2, 1, 0) },
        ),
    ] {
        let bounds = Bounds { reconnects: 1, ..bounds };
        believes::<FailingHost>(name, bounds);
        believes::<FailingHost>(name, Bounds { profile: Profile::Literal, ..bounds });
    }
    let failing = Bounds { reconnects: 2, losses: 1, toggles: 1, ..Bounds::new(3, 4, 3) };
    for profile in [Profile::Strict, Profile::Literal] {
        let bounds = Bounds { profile, ..failing };
        believed("at random", profile, stroll::<FailingHost>(bounds, 1_000));
    }
}

/// Walks and asserts that there is no false alarm; misses are counted only.
fn believes<T: Truth>(name: &str, bounds: Bounds) {
    believed(name, bounds.profile, walk::<T>(bounds));
}

fn believed(name: &str, profile: Profile, found: Found) {
    println!(
        "{name}, {}: {} nodes, {} right reads, {} wrong reads, {} false alarms, {} let pass",
        profile.name(),
        found.nodes,
        found.reads_right,
        found.reads_wrong,
        found.false_alarms,
        found.misses
    );
    assert_eq!(found.false_alarms, 0, "{name}: {}", found.example.unwrap_or_default().join("; "));
    assert!(found.reads_wrong > 0, "{name}: not everything is let pass");
}

/// Bounds within which a failing host can cause every kind of damage.
fn failing_host() -> Vec<(&'static str, Bounds)> {
    let through = Bounds { mode: Mode::WriteThrough, ..Bounds::new(2, 2, 0) };
    vec![
        ("2 writes, 1 read, 2 flushes", Bounds::new(2, 1, 2)),
        ("2 writes, 1 read, 1 flush, 1 loss", Bounds { losses_read: 1, ..Bounds::new(2, 1, 1) }),
        ("1 write, 2 reads, 1 flush, 1 kill", Bounds { kills: 1, ..Bounds::new(1, 2, 1) }),
        (
            "1 write, 2 reads, 1 flush, 1 reset, 1 loss",
            Bounds { resets: 1, losses: 1, ..Bounds::new(1, 2, 1) },
        ),
        (
            "1 write, 1 read, 2 flushes, 1 kill, 1 loss",
            Bounds { kills: 1, losses_read: 1, ..Bounds::new(1, 1, 2) },
        ),
        ("2 writes, 2 reads, 1 loss, write-through", Bounds { losses_read: 1, ..through }),
        ("2 writes, 2 reads, 1 kill, write-through", Bounds { kills: 1, ..through }),
        ("2 writes, 1 read, 1 flush, 1 toggle", Bounds { toggles: 1, ..Bounds::new(2, 1, 1) }),
    ]
}

#[test]
fn a_failing_host_raises_no_false_alarm() {
    for (name, bounds) in failing_host() {
        believes::<FailingHost>(name, bounds);
    }
}

#[test]
fn the_literal_profile_raises_no_false_alarm() {
    let literal = |bounds| Bounds { profile: Profile::Literal, ..bounds };
    believes::<Worlds>(
        "2 writes, 2 reads, 1 loss",
        literal(Bounds { losses_read: 1, ..Bounds::new(2, 2, 0) }),
    );
    let kill = Bounds { kills: 1, losses_read: 1, ..Bounds::new(2, 1, 1) };
    believes::<Worlds>(
        "2 writes, 1 read, 1 flush, 1 kill, 1 loss",
        literal(Bounds { errors: false, ..kill }),
    );
    let zeroes = Bounds { losses: 1, ..Bounds::new(1, 1, 1).zeroes(1, 0) };
    believes::<Worlds>("1 write, 1 zeroes, 1 read, 1 flush, 1 loss", literal(zeroes));
    let discard = Bounds { losses: 1, ..Bounds::new(1, 1, 1).zeroes(0, 1) };
    believes::<Worlds>("1 write, 1 discard, 1 read, 1 flush, 1 loss", literal(discard));
    for (name, bounds) in failing_host().into_iter().skip(1) {
        believes::<FailingHost>(name, literal(bounds));
    }
}

/// Long histories of mixed events, twelve requests deep.
#[test]
fn long_histories_at_random() {
    for mode in [Mode::WriteBack, Mode::WriteThrough, Mode::Flushless] {
        let toggles = u8::from(mode != Mode::Flushless);
        let plain = Bounds { mode, losses: 1, resets: 1, ..Bounds::new(5, 4, 2) };
        agreed(
            "5 writes, 4 reads, 2 flushes, 1 loss, 1 reset, at random",
            stroll::<Worlds>(plain, 6_000),
        );
        let zeroes =
            Bounds { mode, losses: 1, kills: 1, toggles, ..Bounds::new(2, 5, 1).zeroes(2, 2) };
        agreed(
            "2 writes, 2 zeroes, 2 discards, 5 reads, 1 flush, 1 loss, 1 kill, at random",
            stroll::<Worlds>(zeroes, 6_000),
        );
        let failing = Bounds { mode, losses: 1, kills: 1, toggles, ..Bounds::new(3, 4, 3) };
        believed(
            "a failing host, at random",
            Profile::Strict,
            stroll::<FailingHost>(failing, 1_000),
        );
        let literal = Bounds { profile: Profile::Literal, ..failing };
        believed(
            "a failing host, at random",
            Profile::Literal,
            stroll::<FailingHost>(literal, 1_000),
        );
    }
}
