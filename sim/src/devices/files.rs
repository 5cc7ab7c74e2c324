//! The files that devices under test keep their disks in: leased to one run at a time, and removed
//! at the end.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::leftovers::{self, Listed, is_dead, unmount_dead};
use crate::host::power_cut_fs::{Mount, MountError, Power};

/// Among so many of the first files those are looked for that a killed process has left mounted.
const MOST_DEAD: u32 = 64;

/// The files of a campaign: one for each device that is open, `PATH`, `PATH.1` and so on, as far
/// as these were free. All are removed in the end.
#[derive(Clone, Debug, Default)]
pub struct Files {
    pool: Arc<Mutex<Pool>>,
}

#[derive(Debug, Default)]
struct Pool {
    path: PathBuf,
    leased: BTreeSet<u32>,
    /// A file is made iff this pool created it, and so may write and remove it.
    made: BTreeMap<u32, Listed>,
    /// Whether they are mapped.
    mapped: bool,
    /// The file systems over them, if their power is to be cut.
    mounts: Option<BTreeMap<u32, Mount>>,
}

impl Files {
    /// Files that begin with this path. They are made
    /// here and removed with the last user; nothing that was there before is touched.
    ///
    /// # Errors
    /// The file exists already, or cannot be made.
    pub fn new(path: PathBuf) -> io::Result<Files> {
        let made = BTreeMap::from([(0, create_new(&path)?)]);
        let pool = Pool { path, leased: BTreeSet::new(), made, mapped: false, mounts: None };
        Ok(Files { pool: Arc::new(Mutex::new(pool)) })
    }

    /// The same, each under a [file system that forgets](crate::host::power_cut_fs). It is mounted
    /// here. Mounts that a killed process has left under these names are removed first.
    ///
    /// # Errors
    /// Besides those of [`new`](Self::new): nothing can be mounted here, or what is left of a
    /// killed process cannot be taken away.
    pub fn with_power_cuts(path: PathBuf) -> Result<Files, MountError> {
        clear(&path)?;
        let files = Files::new(path.clone()).map_err(|e| MountError::NoFile(path, e))?;
        files.pool.lock().unwrap_or_else(PoisonError::into_inner).mounts = Some(BTreeMap::new());
        files.try_lease()?;
        Ok(files)
    }

    /// Files to be mapped, with power cuts or without.
    ///
    /// # Errors
    /// As [`with_power_cuts`](Self::with_power_cuts).
    pub fn mapped(path: PathBuf, power_cuts: bool) -> Result<Files, MountError> {
        if power_cuts {
            clear(&path)?;
        }
        let files = Files::new(path.clone()).map_err(|e| MountError::NoFile(path, e))?;
        let mut pool = files.pool.lock().unwrap_or_else(PoisonError::into_inner);
        pool.mapped = true;
        pool.mounts = power_cuts.then(BTreeMap::new);
        drop(pool);
        files.try_lease()?;
        Ok(files)
    }

    /// A file that no other run uses.
    pub(crate) fn lease(&self) -> Lease {
        match self.try_lease() {
            Ok(lease) => lease,
            Err(error) => panic!("there is no file for this run: {error}"),
        }
    }

    fn try_lease(&self) -> Result<Lease, MountError> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let free = (0..).filter(|number| !pool.leased.contains(number));
        let (number, made) = free
            .filter_map(|number| match pool.made.contains_key(&number) {
                true => Some((number, Ok(None))),
                // A file of another process keeps its number. Any other error is reported.
                false => match create_new(&pool.named(number)) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
                    made => Some((number, made.map(Some))),
                },
            })
            .next()
            .expect("there are more numbers than files");
        let path = pool.named(number);
        match made {
            Ok(None) => {}
            Ok(Some(listed)) => drop(pool.made.insert(number, listed)),
            Err(error) => return Err(MountError::NoFile(path, error)),
        }
        let mapped = pool.mapped;
        let power = match &mut pool.mounts {
            None => None,
            Some(mounts) => {
                let mount = match mounts.entry(number) {
                    Entry::Occupied(mount) => mount.into_mut(),
                    Entry::Vacant(place) => place.insert(match mapped {
                        false => Mount::over(&path)?,
                        true => Mount::over_mapped(&path)?,
                    }),
                };
                Some(mount.power().clone())
            }
        };
        pool.leased.insert(number);
        Ok(Lease { path, number, power, pool: Arc::clone(&self.pool) })
    }
}

impl Pool {
    fn named(&self, number: u32) -> PathBuf {
        numbered(&self.path, number)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // A file under a mount cannot be removed.
        self.mounts = None;
        for number in self.made.keys() {
            // The file may be gone already, which is as good.
            let _ = std::fs::remove_file(self.named(*number));
        }
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.to_owned().into_os_string();
    name.push(format!(".{number}"));
    name.into()
}

/// Makes an empty file where there is none.
fn create_new(path: &Path) -> io::Result<Listed> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    leftovers::file(path, || options.open(path)).map(|(_, listed)| listed)
}

/// Takes away what a killed process has left mounted under these names.
fn clear(path: &Path) -> Result<(), MountError> {
    let dead = (0..MOST_DEAD).map(|number| numbered(path, number)).filter(|path| is_dead(path));
    let left: Vec<PathBuf> = dead.filter(|path| !unmount_dead(path)).collect();
    match left.is_empty() {
        true => Ok(()),
        false => Err(MountError::Stale(left)),
    }
}

/// The right to use one file.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) path: PathBuf,
    number: u32,
    /// Its switch, if its power can be cut.
    pub(crate) power: Option<Power>,
    pool: Arc<Mutex<Pool>>,
}

impl Lease {
    pub(crate) fn fill(&self, image: &[u8]) -> io::Result<()> {
        match &self.power {
            None => std::fs::write(&self.path, image),
            Some(power) => {
                power.fill(image);
                Ok(())
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        pool.leased.remove(&self.number);
    }
}
