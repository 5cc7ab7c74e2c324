//! Handling of guest memory that disappears: a front-end may shrink a file that it shares, and the
//! host then sends SIGBUS to a thread that touches the missing part.
//!
//! A fault in a [watched](Watch) range is repaired: a zero page replaces the missing one, the range
//! is marked as shrunk, and the thread continues. The server of that guest checks the mark and
//! disconnects it. Any other fault goes to the previous signal handler, which usually ends the
//! process.
//!
//! The signal can interrupt any code, so its handler only reads and writes atomics and maps a page.
//! Ranges are added and removed under a lock that the handler never takes. A system call that meets
//! missing memory returns an errno and raises no signal.

use std::io;
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

/// Maximum number of watched ranges. A front-end shares at most 509.
const MOST: usize = 1024;

/// A range of addresses, as the handler reads it.
struct Place {
    start: AtomicUsize,
    /// Zero iff the place is free.
    end: AtomicUsize,
    shrunk: AtomicBool,
}

static PLACES: [Place; MOST] = [const {
    Place { start: AtomicUsize::new(0), end: AtomicUsize::new(0), shrunk: AtomicBool::new(false) }
}; MOST];

/// Number of watches on each place.
static WATCHES: Mutex<[u32; MOST]> = Mutex::new([0; MOST]);

/// The previous action of SIGBUS, and the page size; set before the handler is installed.
static BEFORE: OnceLock<(libc::sigaction, usize)> = OnceLock::new();

/// Repairs missing pages of a range as long as it lives.
#[derive(Debug)]
pub(super) struct Watch {
    place: usize,
}

impl Watch {
    /// Watches a range of mapped memory, which must stay mapped as long. The first call installs
    /// the handler, for the whole process.
    ///
    /// # Errors
    /// There are too many ranges, or the host does not install the handler.
    pub(super) fn over(range: Range<usize>) -> io::Result<Watch> {
        let mut watches = crate::sync::lock(&WATCHES);
        if BEFORE.get().is_none() {
            take_over()?;
        }
        let same = |place: &Place| {
            place.start.load(Ordering::Relaxed) == range.start
                && place.end.load(Ordering::Relaxed) == range.end
        };
        let found = PLACES.iter().position(same);
        let free = || watches.iter().position(|&count| count == 0);
        let place = found.or_else(free).ok_or(io::ErrorKind::QuotaExceeded)?;
        watches[place] += 1;
        if found.is_none() {
            PLACES[place].shrunk.store(false, Ordering::Relaxed);
            PLACES[place].start.store(range.start, Ordering::Relaxed);
            // Pairs with the first load of the handler: a thread that sees the end sees the rest.
            PLACES[place].end.store(range.end, Ordering::Release);
        }
        Ok(Watch { place })
    }

    /// Whether part of the range was found missing.
    pub(super) fn is_shrunk(&self) -> bool {
        // Pairs with the handler's store, usually on the same thread.
        PLACES[self.place].shrunk.load(Ordering::Acquire)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watches = crate::sync::lock(&WATCHES);
        watches[self.place] -= 1;
        if watches[self.place] == 0 {
            PLACES[self.place].end.store(0, Ordering::Relaxed);
        }
    }
}

/// Installs the handler of SIGBUS.
fn take_over() -> io::Result<()> {
    // SAFETY: the call takes a number and returns one.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let page = usize::try_from(page).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: all its fields are integers, sets of bits or optional pointers, for which zero bytes
    // are a value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: there is room for the result, and the action is not changed.
    if unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut action) } != 0 {
        return Err(io::Error::last_os_error());
    }
    BEFORE.get_or_init(|| (action, page));
    let here: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_fault;
    action.sa_sigaction = here as usize;
    // Rust's threads have a signal stack.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the action has a function for SA_SIGINFO that may be called at any time.
    match unsafe { libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Handler of SIGBUS: the thread continues, or faults again into the previous action.
extern "C" fn on_fault(signal: libc::c_int, fault: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid structure, which lives as long as this
    // call.
    let fault = unsafe { &*fault };
    // SAFETY: the field exists; its value is meaningful if the next line confirms the code.
    let address = unsafe { fault.si_addr() }.addr();
    if fault.si_code == libc::BUS_ADRERR && mend(address) {
        return;
    }
    let Some((before, _)) = BEFORE.get() else { std::process::abort() };
    // SAFETY: the kernel returned this action earlier. The thread faults again, into that action.
    if unsafe { libc::sigaction(signal, before, ptr::null_mut()) } != 0 {
        std::process::abort();
    }
}

/// Replaces missing memory by zeroes. `false` if the address is in no watched range.
fn mend(address: usize) -> bool {
    let Some(&(_, page)) = BEFORE.get() else { return false };
    let mut mended = false;
    for place in &PLACES {
        let end = place.end.load(Ordering::Acquire);
        let start = place.start.load(Ordering::Relaxed);
        if !(start..end).contains(&address) {
            continue;
        }
        let first = address - address % page;
        // Memory in huge pages can only be replaced as a whole.
        mended = mended || put_zeroes(first..first + page) || put_zeroes(start..end);
        place.shrunk.store(true, Ordering::Release);
    }
    mended
}

/// Maps zeroes over part of a mapping.
fn put_zeroes(range: Range<usize>) -> bool {
    let at = ptr::without_provenance_mut(range.start);
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
    // SAFETY: `errno` belongs to this thread.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above; the interrupted code may be about to read it.
    let saved = unsafe { *errno };
    // SAFETY: the range is watched, so it is mapped and holds only guest memory.
    let mapped = unsafe { libc::mmap(at, range.len(), access, flags, -1, 0) };
    // SAFETY: as above.
    unsafe { *errno = saved };
    mapped != libc::MAP_FAILED
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap};

    const LEN: usize = 1 << 16;

    /// A file in memory, and a mapping of it.
    fn shared() -> (File, GuestMemoryMmap) {
        let file = tempfile::tempfile_in("/dev/shm").unwrap();
        file.set_len(LEN as u64).unwrap();
        let place = FileOffset::new(file.try_clone().unwrap(), 0);
        let ranges = [(GuestAddress(0), LEN, Some(place))];
        (file, GuestMemoryMmap::from_ranges_with_files(ranges).unwrap())
    }

    fn watch(memory: &GuestMemoryMmap) -> Watch {
        use vm_memory::GuestMemoryBackend;
        let region = memory.iter().next().unwrap();
        let start = region.as_ptr().addr();
        Watch::over(start..start + LEN).unwrap()
    }

    #[test]
    fn what_is_gone_reads_as_zeroes_and_is_noted() {
        let (file, memory) = shared();
        memory.write_slice(&[7; LEN], GuestAddress(0)).unwrap();
        let (watch, other) = (watch(&memory), watch(&memory));
        file.set_len(4096).unwrap();
        let kept: u8 = memory.read_obj(GuestAddress(4095)).unwrap();
        assert_eq!((kept, watch.is_shrunk()), (7, false), "what is left is not touched");
        let gone: u8 = memory.read_obj(GuestAddress(8192)).unwrap();
        assert_eq!((gone, watch.is_shrunk(), other.is_shrunk()), (0, true, true));
        memory.write_obj(1_u8, GuestAddress(8192)).unwrap();
        let kept: u8 = memory.read_obj(GuestAddress(0)).unwrap();
        assert_eq!(kept, 7);
    }

    #[test]
    fn the_next_watch_of_a_place_knows_nothing_of_the_last_one() {
        let (file, memory) = shared();
        let first = watch(&memory);
        file.set_len(0).unwrap();
        let _: u8 = memory.read_obj(GuestAddress(0)).unwrap();
        assert!(first.is_shrunk());
        drop((first, memory));
        for _ in 0..2 * MOST {
            let (_file, memory) = shared();
            assert!(!watch(&memory).is_shrunk());
        }
    }

    /// Runs itself again, as the process that ends.
    #[test]
    fn a_fault_elsewhere_is_what_it_always_was() {
        use std::os::unix::process::ExitStatusExt;
        const TOUCHES: &str = "POWERFAIL_TOUCHES_WHAT_IS_GONE";
        let name = "host::sigbus::tests::a_fault_elsewhere_is_what_it_always_was";
        if std::env::var_os(TOUCHES).is_some() {
            let (_file, other) = shared();
            let _watch = watch(&other);
            let (file, memory) = shared();
            file.set_len(0).unwrap();
            let _: u8 = memory.read_obj(GuestAddress(0)).unwrap();
            return;
        }
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        let ended = again.args(["--exact", name]).env(TOUCHES, "1").output().unwrap();
        assert_eq!(ended.status.signal(), Some(libc::SIGBUS), "{ended:?}");
    }
}
