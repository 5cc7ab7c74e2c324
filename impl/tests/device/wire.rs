//! The constants of the device compared with those generated from the Linux headers.

use powerfail_device::wire::*;
use virtio_bindings::bindings::{virtio_blk as blk, virtio_config as config, virtio_ring as ring};

#[test]
fn the_wire_constants_are_those_of_the_headers() {
    for (ours, bit) in [
        (F_SIZE_MAX, blk::VIRTIO_BLK_F_SIZE_MAX),
        (F_SEG_MAX, blk::VIRTIO_BLK_F_SEG_MAX),
        (F_RO, blk::VIRTIO_BLK_F_RO),
        (F_BLK_SIZE, blk::VIRTIO_BLK_F_BLK_SIZE),
        (F_FLUSH, blk::VIRTIO_BLK_F_FLUSH),
        (F_TOPOLOGY, blk::VIRTIO_BLK_F_TOPOLOGY),
        (F_CONFIG_WCE, blk::VIRTIO_BLK_F_CONFIG_WCE),
        (F_MQ, blk::VIRTIO_BLK_F_MQ),
        (F_DISCARD, blk::VIRTIO_BLK_F_DISCARD),
        (F_WRITE_ZEROES, blk::VIRTIO_BLK_F_WRITE_ZEROES),
        (F_INDIRECT_DESC, ring::VIRTIO_RING_F_INDIRECT_DESC),
        (F_EVENT_IDX, ring::VIRTIO_RING_F_EVENT_IDX),
        (F_VERSION_1, config::VIRTIO_F_VERSION_1),
        (F_RING_RESET, config::VIRTIO_F_RING_RESET),
    ] {
        assert_eq!(ours, 1 << bit);
    }
    for (ours, theirs) in [
        (T_IN, blk::VIRTIO_BLK_T_IN),
        (T_OUT, blk::VIRTIO_BLK_T_OUT),
        (T_FLUSH, blk::VIRTIO_BLK_T_FLUSH),
        (T_GET_ID, blk::VIRTIO_BLK_T_GET_ID),
        (T_DISCARD, blk::VIRTIO_BLK_T_DISCARD),
        (T_WRITE_ZEROES, blk::VIRTIO_BLK_T_WRITE_ZEROES),
        (S_OK.into(), blk::VIRTIO_BLK_S_OK),
        (S_IOERR.into(), blk::VIRTIO_BLK_S_IOERR),
        (S_UNSUPP.into(), blk::VIRTIO_BLK_S_UNSUPP),
        (ID_BYTES as u32, blk::VIRTIO_BLK_ID_BYTES),
        (SEGMENT_UNMAP, blk::VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP),
        (STATUS_ACKNOWLEDGE.into(), config::VIRTIO_CONFIG_S_ACKNOWLEDGE),
        (STATUS_DRIVER.into(), config::VIRTIO_CONFIG_S_DRIVER),
        (STATUS_DRIVER_OK.into(), config::VIRTIO_CONFIG_S_DRIVER_OK),
        (STATUS_FEATURES_OK.into(), config::VIRTIO_CONFIG_S_FEATURES_OK),
        (STATUS_NEEDS_RESET.into(), config::VIRTIO_CONFIG_S_NEEDS_RESET),
        (STATUS_FAILED.into(), config::VIRTIO_CONFIG_S_FAILED),
        (AVAIL_NO_INTERRUPT.into(), ring::VRING_AVAIL_F_NO_INTERRUPT),
    ] {
        assert_eq!(ours, theirs);
    }
    assert_eq!(HEADER_BYTES, size_of::<blk::virtio_blk_outhdr>());
    assert_eq!(SEGMENT_BYTES, size_of::<blk::virtio_blk_discard_write_zeroes>());
}
