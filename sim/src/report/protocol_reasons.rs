//! What a device owes by the protocol: the sentences for rules that are not about a sector.

use powerfail_model::Rule;

use super::columns::Mark;
use super::evidence::Evidence;
use super::words::status_name;
use crate::guest::{GuestRequest, Malformation};
use crate::trace::features as words_for;

/// The sentences for a violation.
pub(super) fn sentences(evidence: &Evidence<'_>) -> Vec<String> {
    let text = match evidence.violation.rule {
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
        | Rule::WrongRefusal => served(evidence),
        Rule::LegalRequestFailed => request(evidence, |evidence, name, id| {
            format!(
                "{name}{} asks for nothing that may be refused, and the host has done all it was asked for it: the answer must be ok.",
                evidence.sent(id)
            )
        }),
        Rule::UnknownPmemTypeServed => request(evidence, |evidence, name, id| {
            format!("{name}{} has a type that no memory knows, so nothing was made persistent: it must not return 0.", evidence.sent(id))
        }),
        Rule::LegalFlushFailed => request(evidence, |evidence, name, id| {
            format!("{name}{} is a flush, and the host has done all it was asked for it: it must return 0.", evidence.sent(id))
        }),
        Rule::NoSuchReturn => request(evidence, |evidence, name, id| {
            format!("{name}{} must return 0 for success or -1 for failure, as four bytes: a driver knows nothing else.", evidence.sent(id))
        }),
        Rule::RegionUntrue => {
            "With SHMEM_REGION the memory is shared memory region 0, and start and size are zero; without it they say where it is.".to_owned()
        }
        Rule::UnknownStatus => request(evidence, |evidence, name, id| {
            format!("{name}{} must be answered with OK, IOERR or UNSUPP, which are 0, 1 and 2.", evidence.sent(id))
        }),
        Rule::NeverUsed => never_used(evidence),
        Rule::UsedTwice => {
            "A device may use a head only while the request that published it is out, and once each time it was published.".to_owned()
        }
        Rule::UsedUnpublished => "A device may use only heads that the guest has published.".to_owned(),
        Rule::UsedRingBroken => {
            "A device moves used.idx on by one for each request it uses, and by no more than are out.".to_owned()
        }
        Rule::UsedAfterEnd => after_reset(evidence, "No request outlives a reset"),
        Rule::SignalAfterReset => after_reset(evidence, "Nothing is left to be signalled then"),
        Rule::UsedLength => request(evidence, |evidence, name, id| {
            format!(
                "The used length of {name}{} counts the bytes a device has written, from the first on: a guest trusts them.",
                evidence.sent(id)
            )
        }),
        Rule::WroteReadable => request(evidence, |evidence, name, id| {
            let what = match evidence.request(id).map(|request| request.ask) {
                Some(GuestRequest::Out { .. }) => "header and data",
                Some(GuestRequest::Discard(_) | GuestRequest::WriteZeroes(_)) => "header and segments",
                _ => "its header",
            };
            format!("{name}{} gives the device {what} to read, and not to write.", evidence.sent(id))
        }),
        Rule::WroteOutside => request(evidence, |evidence, name, id| {
            format!("{name}{} gives the device its data buffer and one status byte to write, and nothing else.", evidence.sent(id))
        }),
        Rule::WroteAfterEnd => {
            "No request that is out has its buffers there, so the memory is the guest's own.".to_owned()
        }
        Rule::SignalMissing => signal_missing(evidence),
        Rule::NeedsResetUncalled => {
            "Every request was well formed, so the device has no reason to give up.".to_owned()
        }
        Rule::ResetNotShown => format!(
            "The guest has asked for a reset{} and reads the status: it must become zero once nothing moves any more.",
            evidence.last(Mark::Reset(evidence.device))
        ),
        Rule::WritebackUntrue => format!(
            "What the guest wrote{} is the cache mode from then on, and what it reads must say so.",
            evidence.last(Mark::Mode(evidence.device))
        ),
        Rule::GenerationStale => {
            "A driver reads the generation before and after the rest: if it stays, it takes what it has read for one configuration.".to_owned()
        }
        Rule::WritebackStart => format!(
            "CONFIG_WCE was taken without FLUSH{}: a guest that cannot flush must start in write-through mode.",
            evidence.last(Mark::Start(evidence.device))
        ),
        Rule::ReservedNotZero => {
            "A field of a feature that was not negotiated, or of none, must read zero.".to_owned()
        }
        Rule::OfferBroken => {
            format!("It offers {}. CONFIG_WCE requires FLUSH, VERSION_1 must be there, and legacy bits must not.", words_for(evidence.offered).replace(',', ", "))
        }
        Rule::FeaturesRefused => format!(
            "The guest accepted{} only what was offered, and all that this requires.",
            evidence.last(Mark::Start(evidence.device))
        ),
        Rule::UnofferedAccepted => format!(
            "The guest asked for a bit that was not offered{}: the device must not set FEATURES_OK.",
            evidence.last(Mark::Start(evidence.device))
        ),
        Rule::WrongIdentity => request(evidence, |evidence, name, id| {
            format!("{name}{} must read the 20 bytes of serial number the device was given.", evidence.sent(id))
        }),
        Rule::MediumMisplaced => {
            "The medium was looked at past the device: another program, or another version of this one, would find it there.".to_owned()
        }
        Rule::MediumReadOnlyChanged => "The device is read-only, so nothing may write its medium.".to_owned(),
        Rule::MediumOutside => format!(
            "The last sector of the device is {}; what lies around it belongs to somebody else.",
            evidence.options.spec.disk.capacity - 1
        ),
        _ => return Vec::new(),
    };
    if text.is_empty() { Vec::new() } else { vec![text] }
}

fn request(evidence: &Evidence<'_>, say: impl Fn(&Evidence<'_>, &str, u32) -> String) -> String {
    evidence.request_id().map_or_else(String::new, |id| say(evidence, &evidence.name(id), id))
}

/// Why a request had to be refused, or to be refused otherwise.
fn served(evidence: &Evidence<'_>) -> String {
    let Some(id) = evidence.request_id() else { return String::new() };
    let Some(request) = evidence.request(id) else { return String::new() };
    let name = evidence.named(id);
    let spec = &evidence.options.spec;
    let (segments, data) = match &request.ask {
        GuestRequest::Discard(list) | GuestRequest::WriteZeroes(list) => (list.as_slice(), false),
        _ => (&[][..], true),
    };
    let start = evidence.last(Mark::Start(evidence.device));
    let bytes = match request.malformation {
        Malformation::ShortData(bytes) => bytes,
        _ => 0,
    };
    match evidence.violation.rule {
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
            let missing = match request.ask {
                GuestRequest::Discard(_) => "DISCARD",
                GuestRequest::WriteZeroes(_) => "WRITE_ZEROES",
                _ => "a feature",
            };
            format!(
                "{name} needs {missing}, which was not negotiated{start}: it must fail with UNSUPP."
            )
        }
        Rule::UnknownTypeServed => {
            format!("No device knows the request type of {name}: it must fail with UNSUPP.")
        }
        _ => match evidence.violation.status {
            Some(status) => format!(
                "{name} must be refused, and not with {}: the specification names the status.",
                status_name(status)
            ),
            None => format!("{name} must be refused."),
        },
    }
}

fn never_used(evidence: &Evidence<'_>) -> String {
    let Some(id) = evidence.request_id() else {
        return "Once the available index makes no sense a queue is lost, and the device must ask for a reset.".to_owned();
    };
    let name = evidence.named(id);
    let sent = evidence.number(|line| line.mark == Mark::Sent(id)).unwrap_or(0);
    let kick = evidence.number(|line| line.mark == Mark::Kicked && line.number > sent);
    let kicked = match kick {
        Some(line) => {
            format!(", the queue was kicked after that if the device wanted it ({line}),")
        }
        None => String::new(),
    };
    format!("{name} was published{kicked} and nothing moves any more: it will never come back.")
}

fn after_reset(evidence: &Evidence<'_>, what: &str) -> String {
    format!(
        "The guest has read status zero{} after it asked for a reset{}. {what}.",
        evidence.last(Mark::ResetShown(evidence.device)),
        evidence.last(Mark::Reset(evidence.device))
    )
}

fn signal_missing(evidence: &Evidence<'_>) -> String {
    let back = evidence.lines.iter().rfind(|line| matches!(line.mark, Mark::Returned(_)));
    match back {
        Some(line) => {
            let Mark::Returned(id) = line.mark else { return String::new() };
            format!(
                "{} was used ({}) while the guest wanted a signal, and nothing moves any more: the guest will wait for ever.",
                evidence.name(id),
                line.number
            )
        }
        None => "Something was used while the guest wanted a signal, and nothing moves any more."
            .to_owned(),
    }
}
