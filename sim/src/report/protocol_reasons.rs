//! The sentences for rules of the protocol, which concern no sector.

use powerfail_model::Rule;

use super::evidence::Evidence;
use super::line::Mark;
use super::words::status_name;
use crate::guest::wire::Status;
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
                "{name}{} is a legal request, and every host operation for it succeeded: its status must be ok.",
                evidence.sent(id)
            )
        }),
        Rule::UnknownPmemTypeServed => request(evidence, |evidence, name, id| {
            format!("{name}{} has an unknown request type, so it made nothing persistent: it must not return 0.", evidence.sent(id))
        }),
        Rule::LegalFlushFailed => request(evidence, |evidence, name, id| {
            format!("{name}{} is a flush, and every host operation for it succeeded: it must return 0.", evidence.sent(id))
        }),
        Rule::NoSuchReturn => request(evidence, |evidence, name, id| {
            format!("{name}{} must return 0 for success or -1 for failure, in four bytes: no other value is defined.", evidence.sent(id))
        }),
        Rule::RegionUntrue => {
            "With SHMEM_REGION the memory is shared memory region 0, and start and size are zero; without it they are its address and length.".to_owned()
        }
        Rule::UnknownStatus => request(evidence, |evidence, name, id| {
            format!("The status of {name}{} must be OK, IOERR or UNSUPP, which are 0, 1 and 2.", evidence.sent(id))
        }),
        Rule::NeverUsed => never_used(evidence),
        Rule::UsedTwice => {
            "A device may use a head only while its request is outstanding, and once for each time it was published.".to_owned()
        }
        Rule::UsedUnpublished => "A device may use only heads that the guest has published.".to_owned(),
        Rule::UsedRingBroken => {
            "A device writes one element for each request it uses, then advances used.idx by one, never past the outstanding requests; used.flags is 0 or 1, and 0 with EVENT_IDX.".to_owned()
        }
        Rule::UsedAfterEnd => after_reset(evidence, "A reset ends every request"),
        Rule::SignalAfterReset => after_reset(evidence, "No signal may follow"),
        Rule::UsedLength => request(evidence, |evidence, name, id| {
            format!(
                "The used length of {name}{} counts the bytes that the device wrote from the start of the buffer: a driver relies on them.",
                evidence.sent(id)
            )
        }),
        Rule::WroteReadable => request(evidence, |evidence, name, id| {
            let what = match evidence.request(id).map(|request| request.ask) {
                Some(GuestRequest::Out { .. }) => "its header and data",
                Some(GuestRequest::Ranges(..)) => "its header and segments",
                _ => "its header",
            };
            format!("{name}{} gives the device {what} as device-readable: it must not write there.", evidence.sent(id))
        }),
        Rule::WroteOutside if evidence.request_id().is_none() => {
            "The descriptors and the available ring are the driver's: the device must not write there.".to_owned()
        }
        Rule::WroteOutside => request(evidence, |evidence, name, id| {
            format!("{name}{} lets the device write its data buffer and one status byte, and nothing else.", evidence.sent(id))
        }),
        Rule::WroteAfterEnd => {
            "No outstanding request has a buffer there, so only the guest may write it.".to_owned()
        }
        Rule::SignalMissing => signal_missing(evidence),
        Rule::NeedsResetUncalled => {
            "Every request was well formed, so the device met no error that needs a reset.".to_owned()
        }
        Rule::NeedsResetSilent => {
            "Once DRIVER_OK is set, a driver learns that the device needs a reset from a configuration change notification.".to_owned()
        }
        Rule::ResetNotShown => format!(
            "The guest wrote 0 to the status{} and reads it back: it must be zero by the time the device is idle.",
            evidence.last(Mark::Reset(evidence.device))
        ),
        Rule::WritebackUntrue => format!(
            "The value that the guest wrote{} is the cache mode from then on, and a read must return it.",
            evidence.last(Mark::Mode(evidence.device))
        ),
        Rule::GenerationStale => {
            "A driver reads the generation before and after the other fields: if it is unchanged, the driver treats them as one consistent configuration.".to_owned()
        }
        Rule::WritebackStart => format!(
            "CONFIG_WCE was negotiated without FLUSH{}: a guest that cannot flush must start in write-through mode.",
            evidence.last(Mark::Start(evidence.device))
        ),
        Rule::ConfigUntrue => {
            "A driver may read the configuration space before FEATURES_OK and after it, in any width, and relies on each field of an offered feature.".to_owned()
        }
        Rule::ReservedNotZero => {
            "A field whose feature was not negotiated, or that belongs to no feature, must read as zero.".to_owned()
        }
        Rule::OfferBroken => {
            format!("It offers {}. CONFIG_WCE requires FLUSH, VERSION_1 must be offered, and legacy bits must not.", words_for(evidence.offered).replace(',', ", "))
        }
        Rule::FeaturesRefused => format!(
            "The guest accepted{} only offered features, together with every feature they require.",
            evidence.last(Mark::Start(evidence.device))
        ),
        Rule::UnofferedAccepted => format!(
            "The guest accepted a feature that was not offered{}: the device must not keep FEATURES_OK set.",
            evidence.last(Mark::Start(evidence.device))
        ),
        Rule::WrongIdentity => request(evidence, |evidence, name, id| {
            format!("{name}{} must return the configured serial number, 20 bytes.", evidence.sent(id))
        }),
        Rule::MediumMisplaced => {
            "The medium was read directly, not through the device: other programs, and later versions of this one, expect each sector in its place.".to_owned()
        }
        Rule::MediumReadOnlyChanged => "The device is read-only, so its medium must not change.".to_owned(),
        Rule::MediumOutside => format!(
            "The last sector of the device is {}; sectors outside it are not the device's.",
            evidence.shape.spec.disk.capacity - 1
        ),
        _ => return Vec::new(),
    };
    if text.is_empty() { Vec::new() } else { vec![text] }
}

fn request(evidence: &Evidence<'_>, say: impl Fn(&Evidence<'_>, &str, u32) -> String) -> String {
    evidence.request_id().map_or_else(String::new, |id| say(evidence, &evidence.name(id), id))
}

/// The reason why a request had to be refused, or refused with another status.
fn served(evidence: &Evidence<'_>) -> String {
    let Some(id) = evidence.request_id() else { return String::new() };
    let Some(request) = evidence.request(id) else { return String::new() };
    let name = evidence.named(id);
    let spec = &evidence.shape.spec;
    let segments: Vec<_> = request.ask.segments().collect();
    let data = !matches!(request.ask, GuestRequest::Ranges(..));
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
                "{name} extends beyond the last sector of the device, {}: it must fail with IOERR.",
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
            // A feature has the name of the request that needs it.
            let missing = request.ask.facts().spec;
            format!(
                "{name} needs {missing}, which was not negotiated{start}: it must fail with UNSUPP."
            )
        }
        Rule::UnknownTypeServed => {
            format!("The request type of {name} is not defined: it must fail with UNSUPP.")
        }
        _ => match evidence.violation.status {
            Some(status) => format!(
                "{name} must be refused, but not with {}: the specification sets the status.",
                status_name(Status(status))
            ),
            None => format!("{name} must be refused."),
        },
    }
}

fn never_used(evidence: &Evidence<'_>) -> String {
    let Some(id) = evidence.request_id() else {
        return "An avail.idx out of range breaks the queue, and the device must set DEVICE_NEEDS_RESET.".to_owned();
    };
    let name = evidence.named(id);
    let sent = evidence.number(|line| line.mark == Mark::Sent(id)).unwrap_or(0);
    let kick = evidence.number(|line| line.mark == Mark::Kicked && line.number > sent);
    let kicked = match kick {
        Some(line) => {
            format!(", the queue was then kicked unless the device had suppressed it ({line}),")
        }
        None => String::new(),
    };
    format!(
        "{name} was published{kicked} and no work is left that could complete it: it will never be used."
    )
}

fn after_reset(evidence: &Evidence<'_>, what: &str) -> String {
    format!(
        "The guest read status zero{} after it wrote zero{} to reset the device. {what}.",
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
                "{} was used ({}) while the guest had signals enabled, and no work is left that could send one: the guest waits without end.",
                evidence.name(id),
                line.number
            )
        }
        None => "A request was used while the guest had signals enabled, and no work is left that could send one."
            .to_owned(),
    }
}
