//! The seam for backends: the interface that a device must offer to be put under test.
//!
//! It is the guest's view of a device, plus one method that lets a queue's thread take a step.
//! Guest memory is passed as plain bytes, so a backend built on any version of vm-memory fits,
//! and so does one built on none. A binary that implements [`DeviceUnderTest`] and calls
//! [`powerfail::main`](crate::main()) has the whole command line.
//!
//! The core has a dozen methods, half of them with a default; [`DeviceUnderTest`] states the rules
//! for them. Everything else is an [optional part](parts). [`toolkit`] has a ring and a parser for
//! requests, [`transfers`] the operations of the simulated disk.

pub(crate) mod caught;
mod host;
pub mod lifecycle;
mod marked;
pub mod parts;
mod spec;
pub mod toolkit;
pub mod transfers;

pub use host::{Choices, Host, Remark};
pub(crate) use host::{Link, News};
pub(crate) use marked::Marked;
pub use parts::{Absent, Managed, Mapping, OwnMedium};
pub use powerfail_model::{Profile, Rule};
pub use spec::{ALL_FEATURES, MAX_QUEUES, MEMORY_FEATURES, Spec, Waived};

use crate::base::sectors::SectorSet;
use crate::guest::Kind;
use crate::guest::RingPlan;
use crate::guest::wire::feature;
use crate::host::disk::SimDisk;

/// The end of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The process died. The host, with its page cache, continues.
    BackendKill,
    /// The host lost its power.
    PowerLoss {
        /// The [dirty](OwnMedium::dirty) sectors of the device's own medium that survive.
        survivors: SectorSet,
    },
}

/// The place of a device's data, and the faults that the world draws for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// The simulated disk: the world cuts its power, fails its operations, and inspects it.
    Simulated,
    /// A medium of the device's own. Power is lost: [`restart`](DeviceUnderTest::restart) applies
    /// the loss to it. A legal request may fail only if the device reports a failure of that medium
    /// ([`Host::failed`], [`Host::failed_sync`]), which it may have where [`Host::may_fail`] is
    /// true.
    Own,
    /// A medium of the device's own that is free of faults: no power is lost in its runs, and no
    /// legal request may fail.
    FaultFree,
}

impl Medium {
    /// Whether it is the simulated disk.
    #[must_use]
    pub const fn is_simulated(self) -> bool {
        matches!(self, Medium::Simulated)
    }

    /// Whether runs lose the host's power.
    #[must_use]
    pub const fn loses_power(self) -> bool {
        !matches!(self, Medium::FaultFree)
    }

    /// Whether the host may fail a legal request, in runs that draw so.
    #[must_use]
    pub const fn may_fail(self) -> bool {
        !matches!(self, Medium::FaultFree)
    }
}

/// The result of one step of a queue's thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// No work until a kick, a completion, or a wake from another queue.
    Idle,
    /// Some work was done; there may be more.
    Busy,
    /// The driver is signalled: a used-buffer notification of this queue.
    Signal,
    /// This other queue has work now.
    Woke(u16),
}

/// A device under test.
///
/// The world calls the methods in the order of a driver and a transport: `open`; then, per life,
/// `negotiate`, `config_read`, `start`, any number of `kick` and `step`, and `begin_reset` followed
/// by `step` until `reset_done`.
///
/// # Rules
///
/// - A device is a function of its calls: no clock, no random number but [`Host::choose`], no
///   thread with effects of its own. Runs are repeated, and a difference ends a campaign.
/// - A clone shares no state with its original.
/// - Guest memory may lie at other addresses of this process in the next call, and may consist of
///   several adjacent [regions](crate::guest::memory::Ram::regions).
/// - A panic in any method is a finding, so a device may assert what it relies on.
/// - `step` is called on devices that are not live: between `begin_reset` and `reset_done`; once
///   for each queue after `reset_done` was true, where it must use and signal nothing; and for
///   operations of the host that outlive a life.
/// - `begin_reset` comes without a `start` before it, after `negotiate` has refused the features.
/// - A reset may take as many steps and polls as it needs while it makes progress. It counts as
///   broken if `reset_done` is false 4,096 times in a row although every queue is idle and the host
///   has nothing left to do, or after 10,000 rounds of up to 64 steps.
/// - The same bound holds for a device that always says [`Progress::Busy`]: what it has not
///   answered by then counts as never answered.
/// - The [`Spec`] is an order, not a hint: number of queues, serial number, limits of DISCARD and
///   WRITE_ZEROES, read-only disk, start value of the cache mode. Only `offer` is a wish: a device
///   offers those of the features that it has. It may hold RING_RESET although the device has no
///   [lifecycle](Self::lifecycle).
/// - The capacity that the driver reads is that of [`Spec::disk`], in sectors of 512 bytes.
pub trait DeviceUnderTest: Clone + Send + Sized {
    /// The parameters of the device besides the [`Spec`]; `()` for most.
    type Setup: Clone + Default + Send + Sync + std::fmt::Debug;

    /// The place of the device's data.
    const MEDIUM: Medium;

    /// The kinds of the two devices of a world that has two; the first is that of a single device.
    const KINDS: [Kind; 2] = [Kind::Disk; 2];

    /// The contract that the device is judged by, unless `--contract` names the other. Literal
    /// demands only what the specification's text forces; the devices of this repository say
    /// Strict.
    const PROFILE: Profile = Profile::Literal;

    /// Whether a ring may start at the index [`RingPlan::base`] instead of zero. It does in a
    /// quarter of the runs, so that indices wrap; a device that ignores the base then never sees
    /// its first request, and is found at once. A device that says `false` never wraps its rings,
    /// and the summary says so.
    const RING_BASE: bool = true;

    /// Whether the device calls [`Host::choose`]. A search refuses a device that does.
    const CHOOSES: bool = false;

    /// Whether the guest's sector `s` lies at byte `512 s` of the device's part of the simulated
    /// disk. The world checks that. A device that enciphers, compresses, or keeps a log says
    /// `false`, and [formats](Self::format) its part; it may have [spare](Self::spare) sectors.
    /// Host faults, torn writes and power losses are as on a plain medium.
    const PLAIN_MEDIUM: bool = true;

    /// Whether the device has [background work](Self::background).
    const BACKGROUND: bool = false;

    /// Whether two runs of one seed are the same, event by event. It is checked; a difference ends
    /// a campaign. A device with threads or a process of its own says `false`: its findings are
    /// repeated instead, and say how often they were seen again.
    const REPEATABLE: bool = true;

    /// Whether a clone is a second device in the same state. If not, there is neither a search nor
    /// a point of no return, and `clone` is never called.
    const COPIES: bool = true;

    /// Adapts the parameters of a run to a device that cannot have them all, such as a number of
    /// queues or a serial number that is fixed. Called before `open`, with the same result for the
    /// same parameters; the result is in the traces.
    fn fit(_setup: &Self::Setup, _spec: &mut Spec) {}

    /// The sectors that the device needs on the simulated disk besides those of the guest, for logs
    /// and metadata; rounded up to whole granules. They lie at the end of its part, and the limits
    /// of its lanes include them. Only asked if [`PLAIN_MEDIUM`](Self::PLAIN_MEDIUM) is false.
    ///
    /// A medium holds 256 sectors: up to two devices, each with its part and 8 sectors behind it. A
    /// run whose two devices do not fit has one.
    fn spare(_setup: &Self::Setup, _spec: &Spec) -> u32 {
        0
    }

    /// Writes the initial content of the device's part, as a program that formats a disk does:
    /// `image` holds the sectors of the guest, `part` also the [spare](Self::spare) ones. Only
    /// called if [`PLAIN_MEDIUM`](Self::PLAIN_MEDIUM) is false, and before `open`.
    fn format(_setup: &Self::Setup, _spec: &Spec, image: &[u8], part: &mut [u8]) {
        part[..image.len()].copy_from_slice(image);
    }

    /// Whether the disk may be sparse, with the guest's sectors [far from its
    /// beginning](crate::host::disk::DiskShape::first).
    const SPARSE: bool = false;

    /// Starts the backend on a disk that holds the initial image of `disk`. A device with a medium
    /// of its own copies the image from there.
    fn open(setup: &Self::Setup, spec: &Spec, disk: &SimDisk, device: u8) -> Self;

    /// Starts the backend again after its end. A medium of the device's own must keep its content
    /// over [`End::BackendKill`], and stable content over [`End::PowerLoss`].
    ///
    /// The default opens a new device on the simulated disk, which has kept what survived. It is
    /// wrong for every other medium, because [`open`](Self::open) copies the *initial* image, so a
    /// device with a medium of its own does not compile without a `restart` of its own:
    ///
    /// ```compile_fail,E0080
    /// # use powerfail::dut::{DeviceUnderTest, Host, Medium, Progress, Spec};
    /// # use powerfail::{guest::RingPlan, host::disk::SimDisk};
    /// #[derive(Clone)]
    /// struct Mine;
    ///
    /// impl DeviceUnderTest for Mine {
    ///     type Setup = ();
    ///     const MEDIUM: Medium = Medium::Own;
    /// #     fn open(_: &(), _: &Spec, _: &SimDisk, _: u8) -> Mine { Mine }
    /// #     fn offered(&self) -> u64 { 1 << 32 }
    /// #     fn config_read(&mut self, _: u64, _: &mut [u8]) {}
    /// #     fn start(&mut self, _: &[RingPlan]) {}
    /// #     fn step(&mut self, _: u16, _: &mut Host<'_>) -> Progress { Progress::Idle }
    /// #     fn begin_reset(&mut self, _: &mut Host<'_>) {}
    /// }
    ///
    /// let _ = powerfail::check::<Mine>((), 1).run();
    /// ```
    fn restart(&mut self, setup: &Self::Setup, spec: &Spec, host: &mut Host<'_>, _end: End) {
        const {
            assert!(
                Self::MEDIUM.is_simulated(),
                "a device whose medium is not the simulated disk needs a `restart` of its own: \
                 the default would bring back the initial image"
            );
        }
        *self = Self::open(setup, spec, host.disk, host.device);
    }

    /// The offered features.
    fn offered(&self) -> u64;

    /// The driver accepts these features and sets FEATURES_OK. False iff the device refuses. The
    /// default accepts every legal set, for a device whose behaviour does not depend on it.
    fn negotiate(&mut self, accept: u64) -> bool {
        accept & !self.offered() == 0 && accept & feature::VERSION_1 != 0
    }

    /// The driver reads the configuration space: a field, half of one of 8 bytes, or, if the
    /// contract is Strict, any range of up to 60 bytes; at any time since `open`. Fields that the
    /// device does not have read zero.
    fn config_read(&mut self, offset: u64, out: &mut [u8]);

    /// The driver writes the configuration space.
    fn config_write(&mut self, _offset: u64, _bytes: &[u8]) {}

    /// The driver has placed the rings, one for each queue, and sets DRIVER_OK.
    fn start(&mut self, rings: &[RingPlan]);

    /// The driver kicks a queue. A device that reads its rings in every step can ignore it.
    fn kick(&mut self, _queue: u16) {}

    /// The thread of a queue takes one step.
    ///
    /// After [`Progress::Idle`] it is called again once the queue is kicked, an operation of its
    /// lane completes, another queue or background work wakes it, or the device is started, reset
    /// or resumed.
    fn step(&mut self, queue: u16, host: &mut Host<'_>) -> Progress;

    /// Work that belongs to no queue takes one step: garbage collection, write-back, a timer. Only
    /// called if [`BACKGROUND`](Self::BACKGROUND) is true.
    ///
    /// It is scheduled like the thread of a queue, from `open` on, whether a driver runs the device
    /// or not. [`Progress::Idle`] says that there is nothing to do until a queue makes progress, an
    /// operation completes, or the device is kicked, started, reset or restarted. The world also
    /// calls an idle one now and then, so a timer may expire at any time. A step that uses a
    /// request must return [`Progress::Woke`], and the step of that queue signals.
    ///
    /// On the simulated disk it has a lane of its own,
    /// [`Lane::background`](crate::host::disk::Lane::background). Every outstanding request may
    /// fail after an operation of that lane has failed.
    fn background(&mut self, _host: &mut Host<'_>) -> Progress {
        Progress::Idle
    }

    /// The driver writes zero to the device status.
    fn begin_reset(&mut self, host: &mut Host<'_>);

    /// Whether the device status reads zero: at once, for a device that need not wait. Asked again
    /// and again; see the [rules](DeviceUnderTest#rules) for the bound.
    fn reset_done(&mut self) -> bool {
        true
    }

    /// Whether the device status has NEEDS_RESET set.
    fn needs_reset(&mut self) -> bool {
        false
    }

    /// Whether a configuration change notification is due, which the call consumes: after a resize,
    /// and when NEEDS_RESET is set. The default asks the [lifecycle](Self::lifecycle); a device
    /// without one is believed, so it should define this if it ever sets NEEDS_RESET.
    fn take_config_signal(&mut self) -> bool {
        self.lifecycle().is_none_or(Managed::take_config_signal)
    }

    /// For exhaustive searches, so only for devices on the simulated disk: a hash of the state that
    /// a [`restart`](Self::restart) after a power loss would carry over:
    /// from there on, devices with equal numbers behave equally, whatever came before. `None` if
    /// that is unknown, which makes an exhaustive search larger.
    fn carries(&self) -> Option<u64> {
        None
    }

    /// The operations of a virtual machine monitor, if the device supports some. `Some` from `open`
    /// on, or never.
    fn lifecycle(&mut self) -> Option<&mut impl Managed> {
        None::<&mut Absent>
    }

    /// A medium of the device's own, if its volatile sectors are visible. If it is absent, and the
    /// [`MEDIUM`](Self::MEDIUM) is the device's own, the device itself chooses the losses.
    fn own_medium(&self) -> Option<&impl OwnMedium> {
        None::<&Absent>
    }

    /// The mapping of a persistent memory. If it is absent, the driver's stores and loads go to the
    /// simulated disk.
    fn mapping(&mut self) -> Option<&mut impl Mapping> {
        None::<&mut Absent>
    }
}
