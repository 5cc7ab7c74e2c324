//! The part of a history that the ground truth and the oracle share: the requests to one atom,
//! their times, and their ends.

use powerfail_model::RequestId;

/// The effect of a request on the only atom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Writes its own content.
    Write,
    /// Writes zeroes.
    Zero,
    /// Writes zeroes, or has no effect.
    Discard,
    /// Reads.
    Read,
    /// Makes completed writes stable.
    Flush,
}

impl Op {
    pub(crate) const ALL: [Self; 5] =
        [Self::Write, Self::Zero, Self::Discard, Self::Read, Self::Flush];

    pub(crate) fn writes(self) -> bool {
        matches!(self, Self::Write | Self::Zero | Self::Discard)
    }
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    pub(crate) op: Op,
    pub(crate) sub: u32,
    pub(crate) end: u32,
    pub(crate) pending: bool,
    pub(crate) ok: bool,
    /// It is a write that must survive a power loss.
    pub(crate) stable: bool,
    /// The cache mode has been write-through since its submission.
    pub(crate) through: bool,
}

/// All requests, and the cache mode.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) now: u32,
    pub(crate) lines: Vec<Line>,
    pub(crate) write_through: bool,
}

impl History {
    pub(crate) fn tick(&mut self) -> u32 {
        self.now += 1;
        self.now
    }

    pub(crate) fn submit(&mut self, op: Op) -> usize {
        let sub = self.tick();
        let through = self.write_through;
        self.lines.push(Line {
            op,
            sub,
            end: u32::MAX,
            pending: true,
            ok: false,
            stable: false,
            through,
        });
        self.lines.len()
    }

    /// Completes request `id`; a successful flush makes stable the writes completed before its
    /// submission.
    pub(crate) fn complete(&mut self, id: usize, ok: bool) {
        let at = self.tick();
        let line = &mut self.lines[id - 1];
        line.end = at;
        line.pending = false;
        line.ok = ok && line.op != Op::Discard;
        line.stable = line.ok && line.through && line.op.writes();
        if ok && line.op == Op::Flush {
            let sub = line.sub;
            for write in self.lines.iter_mut().filter(|line| line.ok && line.op.writes()) {
                write.stable |= write.end < sub;
            }
        }
    }

    pub(crate) fn toggle(&mut self) {
        self.tick();
        self.write_through = !self.write_through;
        for line in self.lines.iter_mut().filter(|line| line.pending) {
            line.through = false;
        }
    }

    /// Ends every request in flight.
    pub(crate) fn abandon(&mut self) {
        let at = self.tick();
        for line in self.lines.iter_mut().filter(|line| line.pending) {
            line.pending = false;
            line.end = at;
        }
    }

    pub(crate) fn pending(&self) -> Vec<usize> {
        (1..=self.lines.len()).filter(|&id| self.lines[id - 1].pending).collect()
    }

    pub(crate) fn op(&self, id: usize) -> Op {
        self.lines[id - 1].op
    }
}

pub(crate) fn request(id: usize) -> RequestId {
    RequestId(u32::try_from(id).expect("few requests"))
}
