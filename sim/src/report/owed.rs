//! What a device owes by the protocol: the sentences for rules that are not about a sector.

use powerfail_model::Rule;

use super::lanes::Mark;
use super::why::Why;
use super::words::status_name;
use crate::guest::{Ask, Mischief};
use crate::trace::features as words_for;

/// The sentences for a violation.
pub(super) fn sentences(why: &Why<'_>) -> Vec<String> {
    let text = match why.violation.rule {
        Rule::ReadOnlyServed
        | Rule::UnknownFlagServed
        | Rule::DiscardUnmapServed
        | Rule::BeyondCapacityServed
        | Rule::OverLimitServed
        | Rule::TooManySegmentsServed
        | Rule::PartialSectorServed
        | Rule::PartialSegmentServed
        | Rule::UnnegotiatedServed
        | Rule::UnknownTypeServed
        | Rule::WrongRefusal => served(why),
        Rule::LegalRequestFailed => request(why, |why, name, id| {
            format!(
                "{name}{} asks for nothing that may be refused, and the host has done all it was asked for it: the answer must be ok.",
                why.sent(id)
            )
        }),
        Rule::UnknownPmemTypeServed => request(why, |why, name, id| {
            format!("{name}{} has a type that no memory knows, so nothing was made persistent: it must not return 0.", why.sent(id))
        }),
        Rule::LegalFlushFailed => request(why, |why, name, id| {
            format!("{name}{} is a flush, and the host has done all it was asked for it: it must return 0.", why.sent(id))
        }),
        Rule::NoSuchReturn => request(why, |why, name, id| {
            format!("{name}{} must return 0 for success or -1 for failure, as four bytes: a driver knows nothing else.", why.sent(id))
        }),
        Rule::RegionUntrue => {
            "With SHMEM_REGION the memory is shared memory region 0, and start and size are zero; without it they say where it is.".to_owned()
        }
        Rule::UnknownStatus => request(why, |why, name, id| {
            format!("{name}{} must be answered with OK, IOERR or UNSUPP, which are 0, 1 and 2.", why.sent(id))
        }),
        Rule::NeverUsed => never_used(why),
        Rule::UsedTwice => {
            "A device may use a head only while the request that published it is out, and once each time it was published.".to_owned()
        }
        Rule::UsedUnpublished => "A device may use only heads that the guest has published.".to_owned(),
        Rule::UsedRingBroken => {
            "A device moves used.idx on by one for each request it uses, and by no more than are out.".to_owned()
        }
        Rule::UsedAfterEnd => after_reset(why, "No request outlives a reset"),
        Rule::SignalAfterReset => after_reset(why, "Nothing is left to be signalled then"),
        Rule::UsedLength => request(why, |why, name, id| {
            format!(
                "The used length of {name}{} counts the bytes a device has written, from the first on: a guest trusts them.",
                why.sent(id)
            )
        }),
        Rule::WroteReadable => request(why, |why, name, id| {
            let what = match why.role(id).map(|role| role.ask) {
                Some(Ask::Out { .. }) => "header and data",
                Some(Ask::Discard(_) | Ask::WriteZeroes(_)) => "header and segments",
                _ => "its header",
            };
            format!("{name}{} gives the device {what} to read, and not to write.", why.sent(id))
        }),
        Rule::WroteOutside => request(why, |why, name, id| {
            format!("{name}{} gives the device its data buffer and one status byte to write, and nothing else.", why.sent(id))
        }),
        Rule::WroteAfterEnd => {
            "No request that is out has its buffers there, so the memory is the guest's own.".to_owned()
        }
        Rule::SignalMissing => signal_missing(why),
        Rule::NeedsResetUncalled => {
            "Every request was well formed, so the device has no reason to give up.".to_owned()
        }
        Rule::ResetNotShown => format!(
            "The guest has asked for a reset{} and reads the status: it must become zero once nothing moves any more.",
            why.last(Mark::Reset(why.device))
        ),
        Rule::WritebackUntrue => format!(
            "What the guest wrote{} is the cache mode from then on, and what it reads must say so.",
            why.last(Mark::Mode(why.device))
        ),
        Rule::GenerationStale => {
            "A driver reads the generation before and after the rest: if it stays, it takes what it has read for one configuration.".to_owned()
        }
        Rule::WritebackStart => format!(
            "CONFIG_WCE was taken without FLUSH{}: a guest that cannot flush must start in write-through mode.",
            why.last(Mark::Start(why.device))
        ),
        Rule::ReservedNotZero => {
            "A field of a feature that was not negotiated, or of none, must read zero.".to_owned()
        }
        Rule::OfferBroken => {
            format!("It offers {}. CONFIG_WCE requires FLUSH, VERSION_1 must be there, and legacy bits must not.", words_for(why.offered).replace(',', ", "))
        }
        Rule::FeaturesRefused => format!(
            "The guest accepted{} only what was offered, and all that this requires.",
            why.last(Mark::Start(why.device))
        ),
        Rule::UnofferedAccepted => format!(
            "The guest asked for a bit that was not offered{}: the device must not set FEATURES_OK.",
            why.last(Mark::Start(why.device))
        ),
        Rule::WrongIdentity => request(why, |why, name, id| {
            format!("{name}{} must read the 20 bytes of serial number the device was given.", why.sent(id))
        }),
        Rule::MediumMisplaced => {
            "The medium was looked at past the device: another program, or another version of this one, would find it there.".to_owned()
        }
        Rule::MediumReadOnlyChanged => "The device is read-only, so nothing may write its medium.".to_owned(),
        Rule::MediumOutside => format!(
            "The last sector of the device is {}; what lies around it belongs to somebody else.",
            why.options.spec.disk.capacity - 1
        ),
        _ => return Vec::new(),
    };
    if text.is_empty() { Vec::new() } else { vec![text] }
}

fn request(why: &Why<'_>, say: impl Fn(&Why<'_>, &str, u32) -> String) -> String {
    why.request().map_or_else(String::new, |id| say(why, &why.name(id), id))
}

/// Why a request had to be refused, or to be refused otherwise.
fn served(why: &Why<'_>) -> String {
    let Some(id) = why.request() else { return String::new() };
    let Some(role) = why.role(id) else { return String::new() };
    let name = why.named(id);
    let spec = &why.options.spec;
    let (segments, data) = match &role.ask {
        Ask::Discard(list) | Ask::WriteZeroes(list) => (list.as_slice(), false),
        _ => (&[][..], true),
    };
    let start = why.last(Mark::Start(why.device));
    let bytes = match role.mischief {
        Mischief::Ragged(bytes) => bytes,
        _ => 0,
    };
    match why.violation.rule {
        Rule::ReadOnlyServed => {
            format!(
                "{name} would change the medium, and the device offers RO: it must fail with IOERR."
            )
        }
        Rule::UnknownFlagServed => {
            format!(
                "{name} has a segment with a flag that is not defined (the number behind the `/`): it must fail with UNSUPP."
            )
        }
        Rule::DiscardUnmapServed => {
            format!(
                "{name} has the unmap flag set, which a discard must not have: it must fail with UNSUPP."
            )
        }
        Rule::BeyondCapacityServed => {
            format!(
                "{name} goes beyond the end of the device, whose last sector is {}: it must fail with IOERR.",
                spec.disk.capacity - 1
            )
        }
        Rule::OverLimitServed => format!(
            "{name} has a segment of {} sectors, and the device allows {}.",
            segments.iter().map(|segment| segment.sectors).max().unwrap_or(0),
            spec.max_segment_sectors
        ),
        Rule::TooManySegmentsServed => {
            format!(
                "{name} has {} segments, and the device allows {}.",
                segments.len(),
                spec.max_segments
            )
        }
        Rule::PartialSectorServed | Rule::PartialSegmentServed => {
            let unit = if data { "sectors of 512 bytes" } else { "segments of 16 bytes" };
            format!(
                "The data of {name} is {bytes} bytes short of whole {unit}: it must fail with IOERR."
            )
        }
        Rule::UnnegotiatedServed => {
            let missing = match role.ask {
                Ask::Discard(_) => "DISCARD",
                Ask::WriteZeroes(_) => "WRITE_ZEROES",
                _ => "a feature",
            };
            format!(
                "{name} needs {missing}, which was not negotiated{start}: it must fail with UNSUPP."
            )
        }
        Rule::UnknownTypeServed => {
            format!("No device knows the request type of {name}: it must fail with UNSUPP.")
        }
        _ => match why.violation.status {
            Some(status) => format!(
                "{name} must be refused, and not with {}: the specification names the status.",
                status_name(status)
            ),
            None => format!("{name} must be refused."),
        },
    }
}

fn never_used(why: &Why<'_>) -> String {
    let Some(id) = why.request() else {
        return "Once the available index makes no sense a queue is lost, and the device must ask for a reset.".to_owned();
    };
    let name = why.named(id);
    let sent = why.number(|line| line.mark == Mark::Sent(id)).unwrap_or(0);
    let kick = why.number(|line| line.mark == Mark::Kicked && line.number > sent);
    let kicked = match kick {
        Some(line) => {
            format!(", the queue was kicked after that if the device wanted it ({line}),")
        }
        None => String::new(),
    };
    format!("{name} was published{kicked} and nothing moves any more: it will never come back.")
}

fn after_reset(why: &Why<'_>, what: &str) -> String {
    format!(
        "The guest has read status zero{} after it asked for a reset{}. {what}.",
        why.last(Mark::ResetShown(why.device)),
        why.last(Mark::Reset(why.device))
    )
}

fn signal_missing(why: &Why<'_>) -> String {
    let back = why.lines.iter().rfind(|line| matches!(line.mark, Mark::Returned(_)));
    match back {
        Some(line) => {
            let Mark::Returned(id) = line.mark else { return String::new() };
            format!(
                "{} was used ({}) while the guest wanted a signal, and nothing moves any more: the guest will wait for ever.",
                why.name(id),
                line.number
            )
        }
        None => "Something was used while the guest wanted a signal, and nothing moves any more."
            .to_owned(),
    }
}
