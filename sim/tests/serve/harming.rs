//! Malicious or broken front-ends. Each may break its own connection; the next one is served.

use std::os::fd::AsFd;

use rustix::event::{EventfdFlags, eventfd};

use crate::daemon::{Daemon, Place};
use crate::front::{
    ADD_MEM_REG, DATA, FEATURES, Front, MEMORY, SET_FEATURES, SET_MEM_TABLE, SET_VRING_ADDR,
    SET_VRING_BASE, SET_VRING_CALL, SET_VRING_ENABLE, SET_VRING_ERR, SET_VRING_KICK, SET_VRING_NUM,
    USER, region, state, words,
};
use crate::guest::{Guest, PIECE, PLAIN};

/// Serves a disk, runs an attack, and checks that the next client is served.
fn survives(harm: impl Fn(&Place, &mut Daemon)) {
    let place = Place::new(64 * PIECE as u64);
    let mut daemon = place.serve(&[]);
    harm(&place, &mut daemon);
    let mut guest = Guest::connect(&place.socket(), PLAIN, 1).unwrap();
    guest.write(0, 0, 3);
    assert_eq!(guest.read(0, 0), [3; PIECE]);
}

#[test]
fn messages_that_are_none() {
    for bytes in [
        &[0xff; 12][..],
        &[0xff; 4096],
        // An unsupported version of the protocol.
        &[1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0],
        // A body that exceeds the limit.
        &[1, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f],
        // An unknown request.
        &[99, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        // A body that is too short for its request.
        &[8, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0],
    ] {
        survives(|place, _| {
            let mut front = Front::silent(&place.socket());
            front.babble(bytes);
            assert!(front.is_hung_up_on(), "{bytes:?}");
        });
    }
    // Half a header, without the rest.
    survives(|place, _| Front::silent(&place.socket()).babble(&[1, 0, 0]));
}

#[test]
fn a_client_that_says_nothing_at_all() {
    survives(|place, _| drop(Front::silent(&place.socket())));
}

#[test]
fn a_ring_of_an_impossible_size() {
    for size in [0, 32769, 65536 + 64, u32::MAX] {
        survives(|place, _| {
            let mut front = Front::sharing(&place.socket());
            assert!(front.tell(SET_VRING_NUM, &state(0, size), &[]).is_err(), "{size}");
        });
    }
    survives(|place, daemon| {
        let mut front = Front::sharing(&place.socket());
        let kick = front.kick.try_clone().unwrap();
        front.tell(SET_VRING_NUM, &state(0, 3), &[]).unwrap();
        front.tell(SET_VRING_ADDR, &Front::address(), &[]).unwrap();
        front.tell(SET_VRING_KICK, &words(&[0]), &[kick.as_fd()]).unwrap();
        front.tell(SET_VRING_ENABLE, &state(0, 1), &[]).unwrap();
        assert!(daemon.until("ring 0").contains("its size is 3, and it must be a power of two"));
    });
}

#[test]
fn a_ring_that_does_not_exist() {
    for message in [SET_VRING_NUM, SET_VRING_BASE, SET_VRING_ENABLE] {
        survives(|place, _| {
            let mut front = Front::sharing(&place.socket());
            assert!(front.tell(message, &state(200, 1), &[]).is_err());
        });
    }
}

#[test]
fn memory_that_does_not_cover_the_ring() {
    // The used ring begins at the end of the shared memory.
    survives(|place, _| {
        let mut front = Front::negotiated(&place.socket());
        front.share(0x3000).unwrap();
        assert!(front.set_up(0).is_err());
    });
    // It begins in shared memory, and ends behind it.
    survives(|place, daemon| {
        let mut front = Front::negotiated(&place.socket());
        front.share(0x3010).unwrap();
        front.set_up(0).unwrap();
        assert!(daemon.until("ring 0").contains("not in the memory"));
        front.publish(0, 1, DATA);
        front.kick();
        assert_eq!(front.stop(), 0);
    });
    // Its memory is removed later.
    survives(|place, daemon| {
        let mut front = Front::ready(&place.socket());
        front.publish(0, 1, DATA);
        front.finish();
        front.share(0x1000).unwrap();
        front.publish(0, 1, DATA);
        front.kick();
        assert!(daemon.until("ring 0").contains("content is invalid"));
        assert_eq!(front.stop(), 1);
    });
}

#[test]
fn memory_that_makes_no_sense() {
    let table = |regions: &[[u64; 4]]| {
        let mut body = words(&[regions.len() as u64]);
        regions.iter().for_each(|region| body.extend(words(region)));
        body
    };
    for (regions, fds) in [
        // Longer than its file.
        (&[[0, 2 * MEMORY, USER, 0]][..], 1),
        (&[[0, 4096, USER, MEMORY]], 1),
        // Past the end of the address space.
        (&[[u64::MAX - 4095, 8192, USER, 0]], 1),
        (&[[0, 8192, u64::MAX - 4095, 0]], 1),
        // Two overlapping regions.
        (&[[0, 8192, USER, 0], [4096, 8192, USER + 8192, 0]], 2),
        // Fewer files than regions.
        (&[[0, 4096, USER, 0], [4096, 4096, USER + 4096, 4096]], 1),
        (&[[0, 0, USER, 0]], 1),
    ] {
        survives(|place, _| {
            let mut front = Front::negotiated(&place.socket());
            let memory = front.memory.try_clone().unwrap();
            let fds = vec![memory.as_fd(); fds];
            assert!(front.tell(SET_MEM_TABLE, &table(regions), &fds).is_err(), "{regions:?}");
        });
    }
    survives(|place, _| {
        let mut front = Front::sharing(&place.socket());
        let memory = front.memory.try_clone().unwrap();
        assert!(front.tell(ADD_MEM_REG, &region(4096, 4096, 0), &[memory.as_fd()]).is_err());
    });
}

#[test]
fn a_kick_that_is_closed_early_or_is_something_else() {
    survives(|place, _| {
        let mut front = Front::ready(&place.socket());
        front.kick = front.memory.try_clone().unwrap().into();
        front.publish(0, 1, DATA);
    });
    // The read end of a pipe without a writer is always readable and never has a count.
    survives(|place, _| {
        let mut front = Front::sharing(&place.socket());
        let (reader, writer) = std::io::pipe().unwrap();
        drop(writer);
        front.kick = reader.into();
        assert!(front.set_up(0).is_err());
    });
    // A semaphore returns its count one by one, and would stay readable.
    survives(|place, _| {
        let mut front = Front::sharing(&place.socket());
        front.kick = eventfd(0, EventfdFlags::SEMAPHORE).unwrap();
        rustix::io::write(&front.kick, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        assert!(front.set_up(0).is_err());
    });
    // A file cannot be polled.
    survives(|place, _| {
        let mut front = Front::sharing(&place.socket());
        front.kick = front.memory.try_clone().unwrap().into();
        assert!(front.set_up(0).is_err());
    });
}

#[test]
fn a_call_that_can_take_no_more() {
    survives(|place, _| {
        let mut front = Front::ready(&place.socket());
        let (_reader, writer) = std::io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        while rustix::io::write(&writer, &[0; 4096]).is_ok() {}
        rustix::io::ioctl_fionbio(&writer, false).unwrap();
        front.tell(SET_VRING_CALL, &words(&[0]), &[writer.as_fd()]).unwrap();
        front.publish(0, 1, DATA);
        front.kick();
        front.stop();
    });
}

#[test]
fn a_call_that_blocks_and_is_full() {
    survives(|place, _| {
        let mut front = Front::ready(&place.socket());
        let call = eventfd(0, EventfdFlags::empty()).unwrap();
        rustix::io::write(&call, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        front.tell(SET_VRING_CALL, &words(&[0]), &[call.as_fd()]).unwrap();
        // Whatever mode the server has set, the descriptor blocks now.
        rustix::io::ioctl_fionbio(&call, false).unwrap();
        for _ in 0..3 {
            front.publish(0, 1, DATA);
            front.kick();
        }
        while front.used() != 3 {
            std::hint::spin_loop();
        }
        assert_eq!(front.stop(), 3);
    });
}

#[test]
fn descriptors_that_are_something_else() {
    for message in [SET_VRING_CALL, SET_VRING_ERR, SET_VRING_KICK] {
        for path in ["/dev/null", "/dev/zero", "/proc/self/maps", "/"] {
            survives(|place, daemon| {
                let mut front = Front::sharing(&place.socket());
                let file = std::fs::File::open(path).unwrap();
                assert!(front.tell(message, &words(&[0]), &[file.as_fd()]).is_err());
                assert!(daemon.until("disconnected").contains("must be an eventfd"));
            });
        }
    }
    for path in ["/dev/zero", "/dev/null", "/proc/self/mem"] {
        survives(|place, daemon| {
            let mut front = Front::negotiated(&place.socket());
            front.memory = std::fs::File::open(path).unwrap();
            assert!(front.share(4096).is_err());
            assert!(daemon.until("disconnected").contains("must be a memfd or a local file"));
        });
    }
}

#[test]
fn features_that_cannot_be() {
    survives(|place, daemon| {
        let mut front = Front::negotiated(&place.socket());
        front.share(MEMORY).unwrap();
        front.tell(SET_FEATURES, &words(&[FEATURES & !(1 << 32)]), &[]).unwrap();
        assert!(daemon.until("features").contains("VERSION_1"));
        front.set_up(0).unwrap();
        assert!(daemon.until("ring 0").contains("no features"));
    });
    survives(|place, _| {
        let mut front = Front::negotiated(&place.socket());
        assert!(front.tell(SET_FEATURES, &words(&[FEATURES | 1 << 63]), &[]).is_err());
    });
}

#[test]
fn memory_that_is_shrunk() {
    // No memory is left, not even of the ring; or the ring is left, and the requests are not.
    for left in [0, 0x3000, 0x4000] {
        survives(|place, daemon| {
            let mut front = Front::ready(&place.socket());
            front.publish(1, 1, DATA);
            front.finish();
            // A server may poll a ring before it is kicked, but not a disabled one.
            front.tell(SET_VRING_ENABLE, &state(0, 0), &[]).unwrap();
            front.publish(2, 2, DATA);
            front.memory.set_len(left).unwrap();
            front.send(SET_VRING_ENABLE, &state(0, 1), &[]);
            front.kick();
            assert!(front.is_hung_up_on());
            let said = daemon.until("front-end 1 disconnected");
            assert!(said.contains("it shrank the memory it shares"), "{said}");
            let mut image = vec![0; 64 * PIECE];
            image[512..1024].fill(1);
            assert_eq!(std::fs::read(place.disk()).unwrap(), image, "nothing else is touched");
        });
    }
    // Also while the ring is stopped.
    survives(|place, daemon| {
        let mut front = Front::ready(&place.socket());
        front.memory.set_len(0).unwrap();
        front.send(SET_VRING_ADDR, &Front::address(), &[]);
        front.kick();
        daemon.until("it shrank the memory it shares");
    });
    // Only the data is missing: that is an errno of the host, and the status of a request.
    survives(|place, _| {
        let mut front = Front::ready(&place.socket());
        front.publish(1, 1, DATA);
        front.memory.set_len(DATA).unwrap();
        front.finish();
        assert_eq!(front.status(0), 1);
        front.publish(2, 2, 0x8000);
        front.finish();
        assert_eq!(front.status(1), 0, "the rest goes on");
    });
}

#[test]
fn memory_that_is_shrunk_at_any_moment() {
    survives(|place, daemon| {
        for round in 1..=100_u32 {
            let mut front = Front::ready(&place.socket());
            for n in 0..12 {
                front.publish(n, 1, DATA + 512 * n);
            }
            front.kick();
            let memory = front.memory.try_clone().unwrap();
            let left = u64::from(round % 18) << 12;
            let shrinks = std::thread::spawn(move || memory.set_len(left).unwrap());
            for n in 0..round % 7 {
                // The server may end the connection.
                let _ = front.tell(SET_VRING_ENABLE, &state(0, n % 2), &[]);
            }
            shrinks.join().unwrap();
            drop(front);
            let said = daemon.until(&format!("front-end {round} "));
            assert!(said.contains("connected"), "{said}");
        }
    });
}
