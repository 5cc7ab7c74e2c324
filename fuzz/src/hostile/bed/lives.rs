//! Beginning and end of the device's lives: resets, a move to another process, power losses.

use powerfail::base::sectors::SectorSet;
use powerfail::dut::ALL_FEATURES;
use powerfail::guest::wire::feature;
use powerfail_device::RegisterSurface;
use powerfail_device::wire::{
    STATUS_ACKNOWLEDGE, STATUS_DRIVER, STATUS_DRIVER_OK, STATUS_FEATURES_OK,
};
use powerfail_device::{Device, DeviceState, QueueLayout, SaveError, Step, WRITEBACK_OFFSET};
use powerfail_model::Terms;

use super::{Bed, GOOD, HOSTILE, SECTORS, SEGMENT, config, device};

impl Bed {
    /// Begins a life: negotiates the features and places both queues.
    pub(super) fn begin(&mut self) {
        let mut accept = ALL_FEATURES | feature::RING_RESET;
        for (nth, bit) in [
            feature::EVENT_IDX,
            feature::FLUSH,
            feature::CONFIG_WCE,
            feature::DISCARD,
            feature::WRITE_ZEROES,
            feature::INDIRECT_DESC,
            feature::RING_RESET,
        ]
        .into_iter()
        .enumerate()
        {
            if self.setup.declines >> nth & 1 != 0 {
                accept &= !bit;
            }
        }
        let offered = self.device.offered();
        accept |= offered & feature::RO;
        if self.is_alone() {
            accept &= !feature::MQ;
        }
        self.device.set_status(STATUS_ACKNOWLEDGE);
        self.device.set_status(STATUS_ACKNOWLEDGE | STATUS_DRIVER);
        self.device.set_driver_features(accept);
        self.device.set_status(STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
        assert!(self.device.status() & STATUS_FEATURES_OK != 0, "a subset of the offer is refused");
        let layout = self.plan();
        self.device.set_queue(HOSTILE, layout).expect("aligned");
        self.hostile.placed(layout);
        if !self.is_alone() {
            let mut mode = [0];
            self.device.config_read(WRITEBACK_OFFSET, &mut mode);
            let terms = Terms {
                offered,
                negotiated: accept,
                writeback: mode[0] != 0,
                capacity: SECTORS.into(),
                max_discard_sectors: SEGMENT.0,
                max_discard_seg: SEGMENT.1,
                max_write_zeroes_sectors: SEGMENT.0,
                max_write_zeroes_seg: SEGMENT.1,
                host_may_fail: self.host_may_fail(),
            };
            let ring = self.good.begin(terms, accept & feature::EVENT_IDX != 0);
            let layout = QueueLayout {
                size: ring.size,
                descriptors: ring.descriptors.into(),
                available: ring.available.into(),
                used: ring.used.into(),
            };
            self.device.set_queue(GOOD, layout).expect("placed by the book");
        }
        let live = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK;
        self.device.set_status(live);
        assert_eq!(self.device.status() & STATUS_DRIVER_OK, STATUS_DRIVER_OK);
    }

    pub(in super::super) fn reset(&mut self) {
        self.device.set_status(0);
        self.resetting = true;
        self.good.pause();
        self.poll_reset();
    }

    /// Notices a completed reset and begins the next life.
    pub(super) fn poll_reset(&mut self) {
        if self.queue_resetting && !self.device.is_queue_resetting(HOSTILE) {
            self.queue_resetting = false;
            if !self.resetting {
                self.hostile.ended();
                let layout = self.plan();
                self.device
                    .set_queue(HOSTILE, layout)
                    .expect("a queue that was reset is placed again");
                self.hostile.placed(layout);
            }
        }
        if self.resetting && self.device.status() == 0 {
            self.resetting = false;
            self.queue_resetting = false;
            self.hostile.ended();
            if !self.is_alone() {
                self.good.reset_shown();
            }
            for queue in [HOSTILE, GOOD] {
                self.listen(queue);
            }
            self.begin();
        }
    }

    /// Checks that a queue touches no memory and sends no signal after its reset has completed
    /// (ST-04). It may still have to wake another queue.
    fn listen(&mut self, queue: u16) {
        loop {
            match self.step_as(queue) {
                Step::Idle => return,
                Step::Wake(_) => {}
                did => panic!("queue {queue} after its reset was shown: {did:?}"),
            }
        }
    }

    pub(in super::super) fn reset_queue(&mut self) {
        if self.device.reset_queue(HOSTILE).is_ok() {
            self.queue_resetting = true;
            self.poll_reset();
        }
    }

    pub(in super::super) fn pause_or_resume(&mut self) {
        if self.paused {
            self.device.resume();
        } else {
            self.device.pause();
        }
        self.paused = !self.paused;
    }

    /// Saves the device, if it is paused and drained, and continues with one restored from that
    /// state.
    pub(in super::super) fn move_on(&mut self) {
        if !self.device.is_drained() {
            return;
        }
        self.device.begin_save().expect("it is paused and drained");
        if !self.is_alone() {
            self.good.save_begun();
        }
        while self.step(HOSTILE) || self.end_oldest() {}
        let state = match self.device.save() {
            Ok(state) => {
                if !self.is_alone() {
                    self.good.saved();
                }
                state
            }
            Err(SaveError::NotStable(state)) => {
                assert!(self.host_may_fail(), "the host has not failed, and the device says so");
                if !self.is_alone() {
                    self.good.host_failure_shown();
                }
                *state
            }
            Err(error) => panic!("{error}"),
        };
        let state = DeviceState::from_bytes(&state.to_bytes()).expect("our own bytes");
        let device = Device::restore(config(self.setup), self.disk.limits(0), &state);
        self.device = device.expect("a state of the same device");
        self.paused = false;
    }

    /// Loses the power and starts the device again.
    pub(in super::super) fn power(&mut self, survivors: SectorSet) {
        self.disk.power_loss(survivors);
        self.device = device(self.setup, &self.disk);
        (self.resetting, self.paused, self.queue_resetting) = (false, false, false);
        self.hostile.ended();
        if !self.is_alone() {
            self.good.power_loss();
        }
        self.begin();
    }
}
