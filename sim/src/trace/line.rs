//! An action as a line of words, and back.
//!
//! The grammar is `verb words key=value ...`. Lines name things by meaning: requests by number,
//! host operations by queue and sectors. The error for an invalid line names the wrong word.

use std::fmt;
use std::str::FromStr;

use powerfail_model::Segment;

use super::features::{self, Features};
use crate::base::sectors::SectorSet;
use crate::dut::lifecycle::{Cut, Lifecycle};
use crate::guest::{
    Change, GuestRequest, Layout, MAX_SECTORS, MAX_SEGMENTS, MAX_WORDS, Malformation, Moment,
    RangeKind, Segments,
};
use crate::host::disk::{Errno, OpKey, Outcome};
use crate::world::action::{Action, CrashKind, QueueId, Until};

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let device = if self.device == 0 { "" } else { "b." };
        write!(f, "{device}q{}", self.queue)
    }
}

impl FromStr for QueueId {
    type Err = String;

    fn from_str(text: &str) -> Result<QueueId, String> {
        let (device, rest) = match text.strip_prefix("b.") {
            Some(rest) => (1, rest),
            None => (0, text),
        };
        let queue = rest.strip_prefix('q').and_then(|digits| digits.parse().ok());
        let queue = queue.filter(|&queue: &u8| usize::from(queue) < crate::dut::MAX_QUEUES);
        queue
            .map(|queue| QueueId { device, queue })
            .ok_or_else(|| format!("`{text}` is not a queue such as `q0` or `b.q1`"))
    }
}

fn device_name(device: u8) -> &'static str {
    if device == 0 { "a" } else { "b" }
}

/// The name of a request in traces and stories: a letter for its kind, and its number.
#[must_use]
pub(crate) fn request_name(id: u32, ask: &GuestRequest) -> String {
    let letter = ask.facts().letter;
    format!("{letter}{id}")
}

impl fmt::Display for GuestRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.facts().name;
        match self {
            GuestRequest::Flush | GuestRequest::GetId => f.write_str(name),
            GuestRequest::Other(number) => write!(f, "{name} {number}"),
            GuestRequest::In { .. }
            | GuestRequest::Out { .. }
            | GuestRequest::Store { .. }
            | GuestRequest::Load { .. } => {
                let (first, count) = self.range().expect("a transfer has a range");
                write!(f, "{name} {first}+{count}")
            }
            GuestRequest::Ranges(_, segments) => {
                write!(f, "{name} ")?;
                for (nth, segment) in segments.as_slice().iter().enumerate() {
                    let separator = if nth == 0 { "" } else { "," };
                    write!(f, "{separator}{}+{}", segment.sector, segment.sectors)?;
                    if segment.flags != 0 {
                        write!(f, "/{}", segment.flags)?;
                    }
                }
                match segments.more() {
                    0 => Ok(()),
                    more => write!(f, "x{more}"),
                }
            }
        }
    }
}

/// One action as one line, without the line break.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Start { device, accept, base } => {
                write!(f, "start {} accept={}", device_name(*device), Features(*accept))?;
                if *base != 0 {
                    write!(f, " base={base}")?;
                }
                Ok(())
            }
            Action::Send { to, id, ask, .. } if ask.is_access() => {
                let range = ask.range().map(|(first, count)| format!("{first}+{count}"));
                let verb = if ask.mutates() { "store" } else { "load" };
                let (device, name) = (device_name(to.device), request_name(*id, ask));
                write!(f, "{verb} {device} {name} {}", range.unwrap_or_default())
            }
            Action::Send { to, id, ask, layout, malformation } => {
                write!(f, "send {to} {} {ask}", request_name(*id, ask))?;
                if *layout != Layout::PLAIN {
                    write!(f, " layout={layout}")?;
                }
                match malformation {
                    Malformation::None => Ok(()),
                    Malformation::ShortData(bytes) => write!(f, " short-by={bytes}"),
                    Malformation::ExtraData(bytes) => write!(f, " extra={bytes}"),
                    Malformation::SectorSet => f.write_str(" spoiled=sector"),
                    Malformation::ShortHeader => f.write_str(" spoiled=short-header"),
                    Malformation::NoStatus => f.write_str(" spoiled=no-status"),
                    Malformation::StatusFirst => f.write_str(" spoiled=status-first"),
                    Malformation::Loop => f.write_str(" spoiled=loop"),
                    Malformation::NextOutOfRange => f.write_str(" spoiled=dangling"),
                    Malformation::BeyondLimits => f.write_str(" spoiled=beyond-limits"),
                }
            }
            Action::SendAgain { to, id } => write!(f, "again {to} {id}"),
            Action::Alter { to, change, moment } => write!(f, "alter {to} {change} {moment}"),
            Action::Jump { to } => write!(f, "jump {to}"),
            Action::Kick { to } => write!(f, "kick {to}"),
            Action::Reap { to, arm } => {
                write!(f, "reap {to}{}", if *arm { "" } else { " quiet" })
            }
            Action::Writeback { device, value } => {
                write!(f, "writeback {} {value}", device_name(*device))
            }
            Action::Reset { device } => write!(f, "reset {}", device_name(*device)),
            Action::PollReset { device } => write!(f, "status {}", device_name(*device)),
            Action::Crank { to, until } => {
                write!(f, "crank {to}")?;
                match until {
                    Until::Idle => Ok(()),
                    Until::Steps(steps) => write!(f, " steps={steps}"),
                    Until::Submitted(op) => write!(f, " until={op}"),
                    Until::Used(id) => write!(f, " until={id}"),
                }
            }
            Action::Background { device, steps } => {
                write!(f, "background {} steps={steps}", device_name(*device))
            }
            Action::Choose { device, choices } => {
                write!(f, "choose {} {choices}", device_name(*device))
            }
            Action::Effect { op, set } => write!(f, "effect {op} sectors={set}"),
            Action::Complete { op, outcome } => {
                write!(f, "complete {op}")?;
                match outcome {
                    Outcome::Ok { landed } if landed.is_empty() => Ok(()),
                    Outcome::Ok { landed } => write!(f, " with={landed}"),
                    Outcome::Short { bytes } => write!(f, " short={bytes}"),
                    Outcome::Failed { errno, landed, forgot } => {
                        write!(f, " errno={}", errno.0)?;
                        if !landed.is_empty() {
                            write!(f, " landed={landed}")?;
                        }
                        if !forgot.is_empty() {
                            write!(f, " forgot={forgot}")?;
                        }
                        Ok(())
                    }
                }
            }
            Action::Lifecycle { device, what } => life(f, *device, what),
            Action::Stream { to, id, ask, count } => {
                write!(f, "stream {to} {} {ask} count={count}", request_name(*id, ask))
            }
            Action::WriteBack { set } => write!(f, "write-back {set}"),
            Action::Evict { set } => write!(f, "evict {set}"),
            Action::Crash(CrashKind::Backend { device }) => {
                write!(f, "crash backend {}", device_name(*device))
            }
            Action::Crash(CrashKind::Power { survivors }) => {
                write!(f, "crash power survivors={survivors}")
            }
            Action::Await { device, id } => write!(f, "await {} {id}", device_name(*device)),
            Action::Rest => f.write_str("rest"),
        }
    }
}

/// A lifecycle action: the verb, the device or the queue, and the rest.
fn life(f: &mut fmt::Formatter<'_>, device: u8, what: &Lifecycle) -> fmt::Result {
    let name = device_name(device);
    match *what {
        Lifecycle::Pause => write!(f, "pause {name}"),
        Lifecycle::Resume => write!(f, "resume {name}"),
        Lifecycle::Save => write!(f, "save {name}"),
        Lifecycle::Restore => write!(f, "restore {name}"),
        Lifecycle::RestartRings => write!(f, "restart-rings {name}"),
        Lifecycle::Leave => write!(f, "leave {name}"),
        Lifecycle::Resize { sectors } => write!(f, "resize {name} sectors={sectors}"),
        Lifecycle::ResetQueue { queue } => write!(f, "reset-queue {}", QueueId { device, queue }),
        Lifecycle::PollQueue { queue } => write!(f, "queue-reset {}", QueueId { device, queue }),
        Lifecycle::PlaceQueue { queue, size } => {
            write!(f, "place-queue {} ring={size}", QueueId { device, queue })
        }
        Lifecycle::Reconnect { inside: None } => write!(f, "reconnect {name}"),
        Lifecycle::Reconnect { inside: Some((queue, cut)) } => {
            write!(f, "reconnect {name} inside={} at={}", QueueId { device, queue }, cut.name())
        }
    }
}

/// The words of a line: the bare ones in order, and the `key=value` ones by key.
struct Words<'a> {
    bare: std::vec::IntoIter<&'a str>,
    keyed: Vec<(&'a str, &'a str)>,
}

impl<'a> Words<'a> {
    fn new(line: &'a str) -> Words<'a> {
        let (keyed, bare): (Vec<&str>, Vec<&str>) =
            line.split_whitespace().partition(|word| word.contains('='));
        let keyed = keyed.into_iter().filter_map(|word| word.split_once('=')).collect();
        Words { bare: bare.into_iter(), keyed }
    }

    fn next(&mut self, what: &str) -> Result<&'a str, String> {
        self.bare.next().ok_or_else(|| format!("{what} is missing"))
    }

    fn key(&mut self, key: &str) -> Option<&'a str> {
        let at = self.keyed.iter().position(|(name, _)| *name == key)?;
        Some(self.keyed.swap_remove(at).1)
    }

    fn parsed<T: FromStr>(&mut self, key: &str) -> Result<Option<T>, String> {
        self.key(key).map(|text| number(key, text)).transpose()
    }

    fn set(&mut self, key: &str) -> Result<SectorSet, String> {
        self.key(key).map_or(Ok(SectorSet::EMPTY), str::parse)
    }

    fn device(&mut self) -> Result<u8, String> {
        match self.next("the device")? {
            "a" => Ok(0),
            "b" => Ok(1),
            other => Err(format!("`{other}` is not a device: give `a` or `b`")),
        }
    }

    fn end<T>(mut self, value: T) -> Result<T, String> {
        match (self.bare.next(), self.keyed.pop()) {
            (None, None) => Ok(value),
            (Some(word), _) => Err(format!("unexpected word `{word}`")),
            (None, Some((key, _))) => Err(format!("unexpected `{key}=`")),
        }
    }
}

fn number<T: FromStr>(what: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{text}` is not a number for {what}"))
}

fn range(text: &str) -> Result<(u64, u32), String> {
    let parts = text.split_once('+');
    let parsed =
        parts.and_then(|(sector, count)| Some((sector.parse().ok()?, count.parse().ok()?)));
    parsed.ok_or_else(|| format!("`{text}` is not a range of sectors such as `2+1`"))
}

fn transfer(text: &str) -> Result<(u64, u32), String> {
    let (sector, sectors) = range(text)?;
    if sectors > MAX_SECTORS {
        return Err(format!("`{text}` is more than {MAX_SECTORS} sectors"));
    }
    Ok((sector, sectors))
}

fn access(text: &str) -> Result<(u32, u32), String> {
    let (word, words) = range(text)?;
    if words > MAX_WORDS {
        return Err(format!("`{text}` is more than {MAX_WORDS} words"));
    }
    let word = u32::try_from(word).map_err(|_| format!("there is no word {word}"))?;
    Ok((word, words))
}

fn segments(text: &str) -> Result<Segments, String> {
    let mut segments = Segments::NONE;
    let (text, more) = match text.split_once('x') {
        None => (text, 0),
        Some((text, more)) => (text, number("the segments that follow", more)?),
    };
    for (nth, part) in text.split(',').enumerate() {
        if nth == MAX_SEGMENTS {
            return Err(format!("`{text}` has more than {MAX_SEGMENTS} segments"));
        }
        let (place, flags) = part.split_once('/').unwrap_or((part, "0"));
        let (sector, sectors) = range(place)?;
        segments.push(Segment { sector, sectors, flags: number("the flags", flags)? });
    }
    Ok(segments.with_more(more))
}

fn ask(words: &mut Words<'_>) -> Result<GuestRequest, String> {
    Ok(match words.next("the request type")? {
        "in" => {
            let (sector, sectors) = transfer(words.next("the range")?)?;
            GuestRequest::In { sector, sectors }
        }
        "out" => {
            let (sector, sectors) = transfer(words.next("the range")?)?;
            GuestRequest::Out { sector, sectors }
        }
        "flush" => GuestRequest::Flush,
        "get-id" => GuestRequest::GetId,
        "type" => GuestRequest::Other(number("the type", words.next("the type")?)?),
        other => match RangeKind::from_name(other) {
            Some(kind) => GuestRequest::Ranges(kind, segments(words.next("the segments")?)?),
            None => return Err(format!("there is no request type `{other}`")),
        },
    })
}

/// A change of a request: one of five words.
fn change(words: &mut Words<'_>) -> Result<Change, String> {
    if let Some(number) = words.parsed("type")? {
        return Ok(Change::Type(number));
    }
    if let Some(sector) = words.parsed("sector")? {
        return Ok(Change::Sector(sector));
    }
    if let Some(less) = words.parsed("shorter")? {
        return Ok(Change::Length { less });
    }
    if let Some(id) = words.parsed("data")? {
        if id == 0 || id >= 1 << 20 {
            return Err(format!("`{id}` is not the number of a write"));
        }
        return Ok(Change::Data { id });
    }
    if let Some(text) = words.key("segment") {
        let parts = text.split_once(':').map(|(nth, rest)| (nth.parse(), segments(rest)));
        if let Some((Ok(nth), Ok(list))) = parts
            && let ([segment], 0) = (list.as_slice(), list.more())
        {
            return Ok(Change::Segment { nth, segment: *segment });
        }
        return Err(format!("`{text}` is not a place and a segment, such as `0:8+1/0`"));
    }
    Err("give one of type=, sector=, segment=, data= and shorter=".to_owned())
}

/// The point inside a step at which a backend dies.
fn inside(device: u8, place: &str, cut: &str) -> Result<(u8, Cut), String> {
    let to: QueueId = place.parse()?;
    if to.device != device {
        return Err(format!("`{place}` is a queue of another device"));
    }
    let named = Cut::NAMES.iter().find(|named| named.1 == cut);
    let cut = named.ok_or_else(|| format!("there is no point `{cut}` in a step"))?.0;
    Ok((to.queue, cut))
}

impl FromStr for Action {
    type Err = String;

    fn from_str(line: &str) -> Result<Action, String> {
        let mut words = Words::new(line);
        let verb = words.next("the verb")?;
        let queue = |words: &mut Words<'_>| words.next("the queue")?.parse::<QueueId>();
        let op = |words: &mut Words<'_>| words.next("the operation")?.parse::<OpKey>();
        let action = match verb {
            "start" => {
                let device = words.device()?;
                let accept = features::parse(words.key("accept").ok_or("accept= is missing")?)?;
                Action::Start { device, accept, base: words.parsed("base")?.unwrap_or(0) }
            }
            "send" => {
                let to = queue(&mut words)?;
                let name = words.next("the request")?;
                let digits = name.get(1..).unwrap_or_default();
                let id = number("the request", digits)?;
                let ask = ask(&mut words)?;
                let layout = words.key("layout").map_or(Ok(Layout::PLAIN), str::parse)?;
                let short: Option<u16> = words.parsed("short-by")?;
                let extra: Option<u16> = words.parsed("extra")?;
                let malformation = match (short, extra, words.key("spoiled")) {
                    (Some(bytes), _, None) => Malformation::ShortData(bytes),
                    (None, Some(bytes), None) => Malformation::ExtraData(bytes),
                    (None, None, None) => Malformation::None,
                    (.., Some("sector")) => Malformation::SectorSet,
                    (.., Some("short-header")) => Malformation::ShortHeader,
                    (.., Some("no-status")) => Malformation::NoStatus,
                    (.., Some("status-first")) => Malformation::StatusFirst,
                    (.., Some("loop")) => Malformation::Loop,
                    (.., Some("dangling")) => Malformation::NextOutOfRange,
                    (.., Some("beyond-limits")) => Malformation::BeyondLimits,
                    (.., Some(other)) => return Err(format!("there is no malformation `{other}`")),
                };
                if id == 0 || id >= 1 << 20 || name != request_name(id, &ask) {
                    return Err(format!("`{name}` is not the name of this request"));
                }
                Action::Send { to, id, ask, layout, malformation }
            }
            "store" | "load" => {
                let to = QueueId { device: words.device()?, queue: 0 };
                let name = words.next("the access")?;
                let id = number("the access", name.get(1..).unwrap_or_default())?;
                let (word, count) = access(words.next("the range")?)?;
                let ask = match verb {
                    "store" => GuestRequest::Store { word, words: count },
                    _ => GuestRequest::Load { word, words: count },
                };
                if id == 0 || id >= 1 << 20 || name != request_name(id, &ask) {
                    return Err(format!("`{name}` is not the name of this access"));
                }
                let (layout, malformation) = (Layout::PLAIN, Malformation::None);
                Action::Send { to, id, ask, layout, malformation }
            }
            "again" => {
                let to = queue(&mut words)?;
                Action::SendAgain { to, id: number("the request", words.next("the request")?)? }
            }
            "alter" => {
                let to = queue(&mut words)?;
                let change = change(&mut words)?;
                let moment = match (words.parsed("step")?, words.parsed("read")?) {
                    (Some(nth @ 1..), None) => Moment::Step(nth),
                    (None, Some(nth @ 1..)) => Moment::Read(nth),
                    _ => return Err("give one of step= and read=, counted from 1".to_owned()),
                };
                Action::Alter { to, change, moment }
            }
            "jump" => Action::Jump { to: queue(&mut words)? },
            "kick" => Action::Kick { to: queue(&mut words)? },
            "reap" => {
                let to = queue(&mut words)?;
                let arm = match words.bare.next() {
                    None => true,
                    Some("quiet") => false,
                    Some(other) => return Err(format!("`{other}` should be `quiet` or nothing")),
                };
                Action::Reap { to, arm }
            }
            "writeback" => {
                let device = words.device()?;
                Action::Writeback { device, value: number("the mode", words.next("the mode")?)? }
            }
            "reset" => Action::Reset { device: words.device()? },
            "status" => Action::PollReset { device: words.device()? },
            "crank" => {
                let to = queue(&mut words)?;
                let until = match (words.parsed("steps")?, words.key("until")) {
                    (None, None) => Until::Idle,
                    (Some(0), _) => return Err("a crank takes at least one step".to_owned()),
                    (Some(steps), None) => Until::Steps(steps),
                    (None, Some(op)) if op.contains(':') => Until::Submitted(op.parse()?),
                    (None, Some(id)) => Until::Used(number("the request", id)?),
                    (Some(_), Some(_)) => return Err("give steps= or until=, not both".to_owned()),
                };
                Action::Crank { to, until }
            }
            "background" => {
                let device = words.device()?;
                let steps = words.parsed("steps")?.ok_or("steps= is missing")?;
                if steps == 0 {
                    return Err("background work takes at least one step".to_owned());
                }
                Action::Background { device, steps }
            }
            "choose" => {
                let device = words.device()?;
                Action::Choose { device, choices: words.next("the numbers")?.parse()? }
            }
            "effect" => {
                let op = op(&mut words)?;
                Action::Effect { op, set: words.set("sectors")? }
            }
            "complete" => {
                let op = op(&mut words)?;
                let outcome = if let Some(errno) = words.parsed("errno")?.map(Errno) {
                    let (landed, forgot) = (words.set("landed")?, words.set("forgot")?);
                    Outcome::Failed { errno, landed, forgot }
                } else if let Some(bytes) = words.parsed("short")? {
                    Outcome::Short { bytes }
                } else {
                    Outcome::Ok { landed: words.set("with")? }
                };
                Action::Complete { op, outcome }
            }
            "pause" => Action::Lifecycle { device: words.device()?, what: Lifecycle::Pause },
            "resume" => Action::Lifecycle { device: words.device()?, what: Lifecycle::Resume },
            "save" => Action::Lifecycle { device: words.device()?, what: Lifecycle::Save },
            "restore" => Action::Lifecycle { device: words.device()?, what: Lifecycle::Restore },
            "restart-rings" => {
                Action::Lifecycle { device: words.device()?, what: Lifecycle::RestartRings }
            }
            "leave" => Action::Lifecycle { device: words.device()?, what: Lifecycle::Leave },
            "resize" => {
                let device = words.device()?;
                let sectors = words.parsed("sectors")?.ok_or("sectors= is missing")?;
                Action::Lifecycle { device, what: Lifecycle::Resize { sectors } }
            }
            "reset-queue" => {
                let QueueId { device, queue } = queue(&mut words)?;
                Action::Lifecycle { device, what: Lifecycle::ResetQueue { queue } }
            }
            "queue-reset" => {
                let QueueId { device, queue } = queue(&mut words)?;
                Action::Lifecycle { device, what: Lifecycle::PollQueue { queue } }
            }
            "place-queue" => {
                let QueueId { device, queue } = queue(&mut words)?;
                let size = words.parsed("ring")?.ok_or("ring= is missing")?;
                Action::Lifecycle { device, what: Lifecycle::PlaceQueue { queue, size } }
            }
            "reconnect" => {
                let device = words.device()?;
                let inside = match (words.key("inside"), words.key("at")) {
                    (None, None) => None,
                    (Some(place), Some(cut)) => Some(inside(device, place, cut)?),
                    _ => return Err("inside= and at= go together".to_owned()),
                };
                Action::Lifecycle { device, what: Lifecycle::Reconnect { inside } }
            }
            "write-back" => Action::WriteBack { set: words.next("the sectors")?.parse()? },
            "evict" => Action::Evict { set: words.next("the sectors")?.parse()? },
            "crash" => match words.next("the kind of crash")? {
                "backend" => Action::Crash(CrashKind::Backend { device: words.device()? }),
                "power" => Action::Crash(CrashKind::Power { survivors: words.set("survivors")? }),
                other => return Err(format!("there is no crash `{other}`")),
            },
            "await" => {
                let device = words.device()?;
                Action::Await { device, id: number("the request", words.next("the request")?)? }
            }
            "stream" => {
                let to = queue(&mut words)?;
                let name = words.next("the request")?;
                let id = number("the request", name.get(1..).unwrap_or_default())?;
                let ask = ask(&mut words)?;
                let count: u32 = words.parsed("count")?.ok_or("count= is missing")?;
                if id == 0 || count > 1 << 12 || id >= (1 << 20) - count {
                    return Err(format!("{count} requests from `{name}` on are too many"));
                }
                let streams = matches!(ask, GuestRequest::In { .. } | GuestRequest::Out { .. });
                if !streams || name != request_name(id, &ask) {
                    return Err(format!("`{name}` is not the name of a read or write"));
                }
                Action::Stream { to, id, ask, count }
            }
            "rest" => Action::Rest,
            other => return Err(format!("there is no action `{other}`")),
        };
        words.end(action)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_reads_back_as_it_is_written() {
        for (device, line) in [(0, "store a s7 3+2"), (1, "load b l1048575 0+1")] {
            let action: Action = line.parse().expect("an access");
            assert_eq!(action.to_string(), line);
            assert!(matches!(action, Action::Send { to, .. } if to.device == device));
        }
        for nonsense in [
            "store a w7 0+1",
            "store a s0 0+1",
            "store q0 s1 0+1",
            "load a l1 0+9",
            "load a l1 4294967296+1",
            "send q0 s1 store 0+1",
        ] {
            assert!(nonsense.parse::<Action>().is_err(), "{nonsense}");
        }
    }

    #[test]
    fn a_stream_reads_back_as_it_is_written() {
        let line = "stream q0 w9 out 3+1 count=256";
        assert_eq!(line.parse::<Action>().expect("an action").to_string(), line);
        for nonsense in [
            "stream q0 w9 out 3+1",
            "stream q0 w9 flush count=3",
            "stream q0 r9 out 3+1 count=3",
            "stream q0 w0 out 3+1 count=3",
            "stream q0 w9 out 3+1 count=99999",
            "stream q0 w1048570 out 3+1 count=100",
            "stream q0 w4294967295 out 3+1 count=3",
        ] {
            assert!(nonsense.parse::<Action>().is_err(), "{nonsense}");
        }
    }

    #[test]
    fn a_change_reads_back_as_it_is_written() {
        for line in [
            "alter q0 type=4294967295 step=1",
            "alter b.q1 sector=18446744073709551615 read=2",
            "alter q0 segment=2:7+1/0 read=1",
            "alter q0 segment=0:7+1/3 step=255",
            "alter q0 data=77 step=3",
            "alter q0 shorter=512 read=9",
        ] {
            assert_eq!(line.parse::<Action>().expect("an action").to_string(), line);
        }
        for nonsense in [
            "alter q0 type=1",
            "alter q0 step=1",
            "alter q0 type=1 step=0",
            "alter q0 type=1 step=1 read=1",
            "alter q0 type=1 sector=2 step=1",
            "alter q0 segment=1+1 step=1",
            "alter q0 segment=0:1+1,2+1 step=1",
            "alter q0 data=0 step=1",
        ] {
            assert!(nonsense.parse::<Action>().is_err(), "{nonsense}");
        }
    }

    #[test]
    fn a_deviation_of_a_request_reads_back_as_it_is_written() {
        for line in [
            "send q0 f1 flush extra=16",
            "send q0 f1 flush spoiled=sector",
            "send q0 d1 discard 2+1,7+2x30",
            "send q0 z1 write-zeroes 2+1/1x255",
        ] {
            assert_eq!(line.parse::<Action>().expect("an action").to_string(), line);
        }
    }

    #[test]
    fn what_a_device_does_by_itself_reads_back_as_it_is_written() {
        for line in ["background a steps=3", "choose b 3,0,1", "choose a 0"] {
            assert_eq!(line.parse::<Action>().expect("an action").to_string(), line);
        }
        for nonsense in [
            "background a",
            "background a steps=0",
            "background q0 steps=1",
            "choose a",
            "choose a x",
        ] {
            assert!(nonsense.parse::<Action>().is_err(), "{nonsense}");
        }
    }

    #[test]
    fn a_lifecycle_action_reads_back_as_it_is_written() {
        let mut all = vec![
            Lifecycle::Pause,
            Lifecycle::Resume,
            Lifecycle::Save,
            Lifecycle::Restore,
            Lifecycle::RestartRings,
            Lifecycle::Leave,
            Lifecycle::Resize { sectors: 24 },
            Lifecycle::ResetQueue { queue: 3 },
            Lifecycle::PollQueue { queue: 0 },
            Lifecycle::PlaceQueue { queue: 1, size: 8 },
            Lifecycle::Reconnect { inside: None },
        ];
        all.extend(Cut::NAMES.map(|(cut, _)| Lifecycle::Reconnect { inside: Some((2, cut)) }));
        for what in all {
            for device in [0, 1] {
                let action = Action::Lifecycle { device, what };
                assert_eq!(action.to_string().parse(), Ok(action), "{action}");
            }
        }
        for nonsense in [
            "pause",
            "pause c",
            "resize a",
            "place-queue q0",
            "reconnect a inside=q0",
            "reconnect a at=index",
            "reconnect a inside=b.q0 at=index",
            "reconnect a inside=q0 at=noon",
        ] {
            assert!(nonsense.parse::<Action>().is_err(), "{nonsense}");
        }
    }
}
