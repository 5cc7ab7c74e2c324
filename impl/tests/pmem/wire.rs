//! The constants of the device compared with the few generated from the Linux headers.

use powerfail_device::pmem::wire::*;
use virtio_bindings::virtio_ids::VIRTIO_ID_PMEM;

#[test]
fn the_device_id_is_that_of_the_headers() {
    assert_eq!(DEVICE_ID, VIRTIO_ID_PMEM);
}

#[test]
fn a_failure_is_minus_one() {
    assert_eq!(R_FAILED.cast_signed(), -1);
}
