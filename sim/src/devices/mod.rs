//! Devices that can be put under test: those in this repository, on the simulated disk and on real
//! files; mutants of them, each with one fault; and a permissive reference device.

pub mod blk;
pub mod blk_file;
pub mod blk_pmem;
pub mod blk_power_cut;
pub mod faulty;
pub mod files;
mod forward;
mod in_flight;
pub mod permissive;
pub mod pmem;
pub mod pmem_file;
pub mod registers;
pub mod seam;
