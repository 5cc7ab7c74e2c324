//! Attacks by a front-end that sends arbitrary messages.

use rustix::process::Signal;

use super::conversation::{Tally, converse};
use super::draws::Draws;
use super::watch::Campaign;

/// Conversations between two checks of the server.
const EACH: u32 = 10;

#[test]
fn whatever_front_ends_say_the_next_one_is_served() {
    let (mut conversations, mut tally) = (0_u64, Tally::default());
    Campaign::new().run("front-end", |watch, seed| {
        let mut draws = Draws::new(&[], seed);
        for _ in 0..EACH {
            let nudge = || watch.signal(Signal::USR1);
            tally += converse(&mut draws, watch.connect(), &watch.place.disk(), &nudge);
        }
        conversations += u64::from(EACH);
    });
    println!("{conversations} conversations, {tally:?}");
    // Fewer answers would mean that the messages did not reach the server's code.
    assert!(tally.answers > conversations, "{tally:?} in {conversations}");
    assert!(tally.whole > conversations / 20, "{tally:?} in {conversations}");
}
