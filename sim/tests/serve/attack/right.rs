//! A correct client: it writes, flushes, reads back, stops its ring and disconnects. It must be
//! served after any attack.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::AsFd;

use super::field::{DATA, Field, address};
use super::protocol::{
    End, FEATURES, GET_FEATURES, GET_PROTOCOL_FEATURES, GET_VRING_BASE, PROTOCOL, SET_FEATURES,
    SET_MEM_TABLE, SET_OWNER, SET_PROTOCOL_FEATURES, SET_VRING_ADDR, SET_VRING_BASE,
    SET_VRING_CALL, SET_VRING_ENABLE, SET_VRING_KICK, SET_VRING_NUM, VERSION, WANTS_ANSWER,
    message, state, words,
};

/// Much longer than any step takes on a busy machine: a server that needs longer hangs.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// Descriptors of its ring.
const SIZE: u16 = 64;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const IN: u32 = 0;
/// Number of bytes it writes, and their offset on the disk.
const BYTES: usize = 4096;
const SECTOR: u64 = 16;

struct Client {
    end: End,
    field: Field,
}

impl Client {
    fn ask(&mut self, request: u32, body: &[u8]) -> Result<Vec<u8>, String> {
        self.end.send(&message(request, VERSION, body), &[]);
        self.answer(request)
    }

    fn tell(&mut self, request: u32, body: &[u8], fds: &[&dyn AsFd]) -> Result<(), String> {
        let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
        self.end.send(&message(request, VERSION | WANTS_ANSWER, body), &fds);
        let answer = self.answer(request)?;
        if answer == [0; 8] { Ok(()) } else { Err(format!("{request} is answered {answer:x?}")) }
    }

    fn answer(&mut self, request: u32) -> Result<Vec<u8>, String> {
        let answer = self.end.hear(TIMEOUT);
        answer.map(|answer| answer.body).ok_or_else(|| {
            let why = if self.end.gone { "hung up" } else { "no answer" };
            format!("{why} after message {request}")
        })
    }
}

/// Runs a whole client over this connection; `mark` makes its data unique.
///
/// # Errors
/// The error of the server.
pub(crate) fn client(stream: UnixStream, mark: u64) -> Result<(), String> {
    let mut client = Client { end: End::new(stream), field: Field::new() };
    let event = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
    let (kick, call) = (event().map_err(|e| e.to_string())?, event().map_err(|e| e.to_string())?);
    client.end.send(&message(SET_OWNER, VERSION, &[]), &[]);
    client.ask(GET_FEATURES, &[])?;
    client.ask(GET_PROTOCOL_FEATURES, &[])?;
    client.end.send(&message(SET_PROTOCOL_FEATURES, VERSION, &words(&[PROTOCOL])), &[]);
    client.tell(SET_FEATURES, &words(&[FEATURES]), &[])?;
    let memory = client.field.file().try_clone().map_err(|e| e.to_string())?;
    client.tell(SET_MEM_TABLE, &Field::table(), &[&memory])?;
    client.tell(SET_VRING_NUM, &state(0, SIZE.into()), &[])?;
    client.tell(SET_VRING_BASE, &state(0, 0), &[])?;
    client.tell(SET_VRING_ADDR, &address(0, 0), &[])?;
    client.tell(SET_VRING_CALL, &words(&[0]), &[&call])?;
    client.tell(SET_VRING_KICK, &words(&[0]), &[&kick])?;
    client.tell(SET_VRING_ENABLE, &state(0, 1), &[])?;

    let data: Vec<u8> = mark.to_le_bytes().into_iter().cycle().take(BYTES).collect();
    client.field.put(DATA, &data);
    let requests = [(OUT, DATA, BYTES), (FLUSH, 0, 0), (IN, DATA + 0x1_0000, BYTES)];
    for ((kind, at, len), slot) in requests.into_iter().zip(0..) {
        let (head, status) = client.field.request(0, slot, kind, SECTOR, (at, len as u32));
        client.field.publish(0, SIZE, head);
        rustix::io::write(&kick, &1_u64.to_ne_bytes()).map_err(|e| e.to_string())?;
        while client.field.used(0) != slot + 1 {
            let patience = Timespec::try_from(TIMEOUT).expect("a short time");
            if poll(&mut [PollFd::new(&call, PollFlags::IN)], Some(&patience)) == Ok(0) {
                return Err(format!("no signal for a request of type {kind}"));
            }
            // The read fails only if a signal interrupts it.
            let _ = rustix::io::read(&call, &mut [0; 8]);
        }
        match client.field.get(status, 1)[0] {
            0 => {}
            status => return Err(format!("status {status} for a request of type {kind}")),
        }
    }
    if client.field.get(DATA + 0x1_0000, BYTES) != data {
        return Err("a read returned other data than was written".to_owned());
    }
    let base = client.ask(GET_VRING_BASE, &state(0, 0))?;
    client.field.check_margins();
    if base == state(0, 3) { Ok(()) } else { Err(format!("the base after three is {base:x?}")) }
}
