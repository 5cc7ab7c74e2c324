//! The device's table of the effects of failed operations equals the simulated disk's: the disk
//! does neither more damage than the device expects nor less, so that a device that expects less is
//! caught.

use powerfail::host::disk::{self, Damage, OpKind as Asked};
use powerfail_device::{Errno, Harm, OpKind};

/// The largest errno of Linux.
const MOST: i32 = 4095;

#[test]
fn the_simulated_disk_does_the_damage_that_the_device_reckons_with() {
    let kinds = [
        (Asked::Read, OpKind::Read),
        (Asked::Write, OpKind::Write),
        (Asked::Sync, OpKind::Sync),
        (Asked::Discard, OpKind::Discard),
        (Asked::WriteZeroes, OpKind::WriteZeroes),
    ];
    for errno in 1..=MOST {
        for (asked, kind) in kinds {
            let expected = match disk::Errno(errno).damage(asked) {
                Damage::None => Harm::Nothing,
                Damage::Landed => Harm::OwnRange,
                Damage::Forgot => Harm::Unsynced,
            };
            assert_eq!(Errno(errno).harm(kind), expected, "errno {errno} of {kind:?}");
        }
    }
}
