//! Reads, writes and syncs of the simulated disk with buffers of the device's own, for plug-ins
//! whose data does not move straight between the disk and the guest.
//!
//! A transfer has any length in whole granules. It is split into operations as the disk's limits
//! demand, continued after a short one, and repeated when the disk refuses it for now; any other
//! error ends it. There is one operation of a transfer in flight at a time.

use powerfail_device::{Bounce, Buffer, Completion, Disk as _, Op, Submission, Token};

use crate::dut::Host;
use crate::host::disk::{Errno, Lane};

const SECTOR: usize = 512;

/// The result of one [step](Transfers::step).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transferred {
    /// No work until an operation completes or a transfer begins.
    Nothing,
    /// Some work was done.
    Some,
    /// A transfer has ended.
    Ended {
        /// Its number.
        number: u32,
        /// The bytes of a read, nothing for the others; or the error number of the host. After an
        /// error, any part of a write may have taken effect.
        result: Result<Vec<u8>, i32>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    Sync,
}

#[derive(Clone, Debug)]
struct Transfer {
    number: u32,
    kind: Kind,
    start: usize,
    bytes: Vec<u8>,
    /// The bytes moved so far.
    done: usize,
    in_flight: bool,
}

impl Transfer {
    /// The next operation, of at most `most` bytes.
    fn op(&self, most: usize) -> Op {
        let len = (self.bytes.len() - self.done).min(most);
        let offset = (self.start + self.done) as u64;
        let mut bounce = Bounce::zeroed(len);
        match self.kind {
            Kind::Sync => Op::Sync,
            Kind::Read => Op::Read { offset, into: Buffer::Bounce(bounce) },
            Kind::Write => {
                bounce.as_mut_slice().copy_from_slice(&self.bytes[self.done..self.done + len]);
                Op::Write { offset, from: Buffer::Bounce(bounce) }
            }
        }
    }
}

/// The transfers of one lane, in the order in which they began.
#[derive(Clone, Debug, Default)]
pub struct Transfers {
    last: u32,
    all: Vec<Transfer>,
}

impl Transfers {
    /// Begins a read of `sectors` sectors from sector `sector` of the device's part on. Returns the
    /// number of the transfer.
    pub fn read(&mut self, sector: u32, sectors: u32) -> u32 {
        self.begin(Kind::Read, sector, vec![0; sectors as usize * SECTOR])
    }

    /// Begins a write of these bytes, as [`read`](Self::read).
    pub fn write(&mut self, sector: u32, bytes: Vec<u8>) -> u32 {
        self.begin(Kind::Write, sector, bytes)
    }

    /// Begins a sync: it makes stable what has ended before.
    pub fn sync(&mut self) -> u32 {
        self.begin(Kind::Sync, 0, Vec::new())
    }

    fn begin(&mut self, kind: Kind, sector: u32, bytes: Vec<u8>) -> u32 {
        self.last += 1;
        let (number, start) = (self.last, sector as usize * SECTOR);
        self.all.push(Transfer { number, kind, start, bytes, done: 0, in_flight: false });
        number
    }

    /// Whether every transfer has ended.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.all.is_empty()
    }

    /// Takes a completion from the lane of a queue, or else submits the next operation that there
    /// is room for.
    pub fn step(&mut self, queue: u16, host: &mut Host<'_>) -> Transferred {
        let ram = host.ram;
        let mut lane = Lane::new(host.disk, host.device, queue as u8);
        if let Some(completion) = lane.complete(&ram) {
            let granule = lane.limits().granule;
            return self.completed(completion, granule);
        }
        let waiting = self.all.iter_mut().find(|transfer| !transfer.in_flight);
        let Some(transfer) = waiting.filter(|_| lane.room() > 0) else {
            return Transferred::Nothing;
        };
        let limits = lane.limits();
        let op = transfer.op((limits.max_transfer - limits.max_transfer % limits.granule) as usize);
        transfer.in_flight = true;
        lane.submit(&ram, Submission { token: Token::new(transfer.number, 0), op });
        Transferred::Some
    }

    fn completed(&mut self, completion: Completion, granule: u32) -> Transferred {
        let number = completion.token.slot();
        let Some(at) = self.all.iter().position(|transfer| transfer.number == number) else {
            return Transferred::Some;
        };
        let granule = granule as usize;
        let transfer = &mut self.all[at];
        transfer.in_flight = false;
        match completion.result {
            Err(errno) if Errno(errno.0).is_put_off() => return Transferred::Some,
            Err(errno) => {
                self.all.remove(at);
                return Transferred::Ended { number, result: Err(errno.0) };
            }
            // Nothing moved, without an error: the end of the medium.
            Ok(0) if transfer.kind != Kind::Sync => {
                self.all.remove(at);
                return Transferred::Ended { number, result: Err(Errno::EIO.0) };
            }
            Ok(moved) => {
                // A part of a granule is transferred again, so that the rest begins on one.
                let moved = moved as usize / granule * granule;
                let end = transfer.done + moved;
                if let (Kind::Read, Some(Buffer::Bounce(bounce))) =
                    (&transfer.kind, &completion.buffer)
                {
                    transfer.bytes[transfer.done..end].copy_from_slice(&bounce.as_slice()[..moved]);
                }
                transfer.done = end;
            }
        }
        if transfer.done < transfer.bytes.len() {
            return Transferred::Some;
        }
        let Transfer { kind, bytes, .. } = self.all.remove(at);
        let bytes = if kind == Kind::Read { bytes } else { Vec::new() };
        Transferred::Ended { number, result: Ok(bytes) }
    }
}
