//! Guest memory that stays mapped while it is held.
//!
//! The seam lends memory for one call, but a kernel that was given addresses uses them later, and a
//! front-end may replace its memory table meanwhile. Memory for an asynchronous disk is therefore
//! shared: each operation holds the mapping it was submitted under until it completes.

use super::regions::Regions;
use std::sync::Arc;
use vm_memory::bitmap::BS;
use vm_memory::guest_memory::GuestMemorySliceIterator;
use vm_memory::{GuestAddress, GuestMemory, GuestMemoryError, Permissions};

/// Shared guest memory. With a `GuestMemoryAtomic`, create it once per iteration of the event loop
/// from `memory().into_inner()`.
#[derive(Debug, Default)]
pub struct ArcMemory<M>(Arc<M>);

impl<M> ArcMemory<M> {
    /// Another holder of the same mapping.
    pub(super) fn hold(&self) -> Arc<M> {
        Arc::clone(&self.0)
    }
}

impl ArcMemory<Regions> {
    /// Whether a file under it [was shrunk](Regions::is_shrunk).
    pub(super) fn is_shrunk(&self) -> bool {
        self.0.is_shrunk()
    }
}

impl<M> Clone for ArcMemory<M> {
    fn clone(&self) -> ArcMemory<M> {
        ArcMemory(self.hold())
    }
}

impl<M> From<Arc<M>> for ArcMemory<M> {
    fn from(memory: Arc<M>) -> ArcMemory<M> {
        ArcMemory(memory)
    }
}

impl<M: GuestMemory> GuestMemory for ArcMemory<M> {
    type PhysicalMemory = M::PhysicalMemory;
    type Bitmap = M::Bitmap;

    fn check_range(&self, addr: GuestAddress, count: usize, access: Permissions) -> bool {
        self.0.check_range(addr, count, access)
    }

    fn get_slices<'a>(
        &'a self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Result<impl GuestMemorySliceIterator<'a, BS<'a, M::Bitmap>>, GuestMemoryError> {
        self.0.get_slices(addr, count, access)
    }

    fn physical_memory(&self) -> Option<&M::PhysicalMemory> {
        self.0.physical_memory()
    }
}
