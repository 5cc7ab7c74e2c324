//! The core methods of [`DeviceUnderTest`](crate::dut::DeviceUnderTest) that a wrapper leaves to
//! the device inside it.

/// Defines the named methods by calling those of a field.
macro_rules! forward {
    ($inner:ident: $($method:ident),+) => { $(forward!(@ $inner $method);)+ };
    (@ $inner:ident offered) => {
        fn offered(&self) -> u64 {
            self.$inner.offered()
        }
    };
    (@ $inner:ident negotiate) => {
        fn negotiate(&mut self, accept: u64) -> bool {
            self.$inner.negotiate(accept)
        }
    };
    (@ $inner:ident config_read) => {
        fn config_read(&mut self, offset: u64, out: &mut [u8]) {
            self.$inner.config_read(offset, out);
        }
    };
    (@ $inner:ident config_write) => {
        fn config_write(&mut self, offset: u64, bytes: &[u8]) {
            self.$inner.config_write(offset, bytes);
        }
    };
    (@ $inner:ident start) => {
        fn start(&mut self, rings: &[crate::guest::RingPlan]) {
            self.$inner.start(rings);
        }
    };
    (@ $inner:ident kick) => {
        fn kick(&mut self, queue: u16) {
            self.$inner.kick(queue);
        }
    };
    (@ $inner:ident begin_reset) => {
        fn begin_reset(&mut self, host: &mut crate::dut::Host<'_>) {
            self.$inner.begin_reset(host);
        }
    };
    (@ $inner:ident reset_done) => {
        fn reset_done(&mut self) -> bool {
            self.$inner.reset_done()
        }
    };
    (@ $inner:ident needs_reset) => {
        fn needs_reset(&mut self) -> bool {
            self.$inner.needs_reset()
        }
    };
    (@ $inner:ident take_config_signal) => {
        fn take_config_signal(&mut self) -> bool {
            self.$inner.take_config_signal()
        }
    };
}

pub(super) use forward;
