//! A disk for SQLite that forgets what was not synced.
//!
//! A database opened through the VFS [`NAME`] works as ever. Beside that, everything written to its file and its
//! write-ahead log is recorded until it is synced, so that at any moment [`power_loss`] can say what would be found after
//! the power had failed just then: what was synced, and of what was written since then whatever a disk may have got to,
//! in any order, torn between sectors.
//!
//! The VFS is SQLite's own with four methods of each file replaced: nothing of how SQLite locks, maps or reads is other
//! than it is without it.

use std::{
    collections::HashMap,
    ffi::{CStr, c_char, c_int, c_void},
    fs, io,
    path::{Path, PathBuf},
    ptr,
    sync::{Mutex, MutexGuard, Once, PoisonError},
};

use rand::{Rng, RngExt};
use rusqlite::ffi::{
    self, SQLITE_OK, SQLITE_OPEN_MAIN_DB, SQLITE_OPEN_WAL, sqlite3_file, sqlite3_filename, sqlite3_int64,
    sqlite3_io_methods, sqlite3_vfs,
};

/// The VFS's name.
pub const NAME: &str = "power-loss";
const C_NAME: &CStr = c"power-loss";
/// What a disk writes whole or not at all, in bytes.
const SECTOR: usize = 512;

/// A change of a file that was not synced yet.
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Truncate { to: usize },
}

/// What is known of a file.
#[derive(Default)]
struct Image {
    synced: Vec<u8>,
    since: Vec<Change>,
}

/// An open file.
struct Open {
    /// The methods that were replaced; they live as long as the process.
    methods: &'static sqlite3_io_methods,
    path: PathBuf,
}

#[derive(Default)]
struct Disk {
    images: HashMap<PathBuf, Image>,
    /// By the address of SQLite's object.
    open: HashMap<usize, Open>,
    /// By the address of the methods they replace.
    replaced: HashMap<usize, &'static sqlite3_io_methods>,
}

static DISK: Mutex<Option<Disk>> = Mutex::new(None);

/// Registers the VFS; again and again if need be.
pub fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: SQLite's default VFS is there from its initialisation on and for as long as the process lives. The copy
        // is leaked, so it lives as long, and its name does, too. What the VFS's own methods read of it is in the copy.
        let registered = unsafe {
            let default = ffi::sqlite3_vfs_find(ptr::null());
            let mut vfs = *default;
            vfs.zName = C_NAME.as_ptr();
            vfs.pNext = ptr::null_mut();
            vfs.xOpen = Some(open);
            vfs.xDelete = Some(delete);
            ffi::sqlite3_vfs_register(Box::leak(Box::new(vfs)), 0)
        };
        assert_eq!(registered, SQLITE_OK, "the VFS was not registered");
    });
}

/// What would be found in `folder` if the power failed now, written to `copy`. Each sector written since the last sync is
/// there with the probability `kept`, from 0 to 1.
pub fn power_loss(folder: &Path, copy: &Path, kept: f64, random: &mut impl Rng) -> io::Result<()> {
    let mut disk = lock();
    for (path, image) in &disk.get_or_insert_default().images {
        let Ok(name) = path.strip_prefix(folder) else { continue };
        let mut found = image.synced.clone();
        for change in &image.since {
            match change {
                Change::Write { at, bytes } => {
                    for (sector, bytes) in bytes.chunks(SECTOR).enumerate() {
                        if random.random_bool(kept) {
                            put(&mut found, at + sector * SECTOR, bytes);
                        }
                    }
                }
                Change::Truncate { to } if random.random_bool(kept) => found.resize(*to, 0),
                Change::Truncate { .. } => {}
            }
        }
        fs::write(copy.join(name), found)?;
    }
    Ok(())
}

fn put(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if file.len() < at + bytes.len() {
        file.resize(at + bytes.len(), 0);
    }
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

fn lock() -> MutexGuard<'static, Option<Disk>> {
    DISK.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk {
    fn image(&mut self, file: *mut sqlite3_file) -> Option<&mut Image> {
        let path = &self.open.get(&(file as usize))?.path;
        self.images.get_mut(path)
    }
}

/// The methods that a file had.
fn original(file: *mut sqlite3_file) -> Option<&'static sqlite3_io_methods> {
    lock().get_or_insert_default().open.get(&(file as usize)).map(|open| open.methods)
}

fn default_vfs() -> *mut sqlite3_vfs {
    // SAFETY: without arguments that could be wrong.
    unsafe { ffi::sqlite3_vfs_find(ptr::null()) }
}

unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    name: sqlite3_filename,
    file: *mut sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: the arguments are SQLite's own, handed on as they came; what is read of them is only read after SQLite's
    // own method has said that it has filled them. The methods put in place live as long as the process.
    unsafe {
        let Some(open) = (*default_vfs()).xOpen else { return ffi::SQLITE_ERROR };
        let result = open(vfs, name, file, flags, out_flags);
        if result != SQLITE_OK || name.is_null() || flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL) == 0 {
            return result;
        }
        let Ok(path) = CStr::from_ptr(name).to_str() else { return result };
        let path = PathBuf::from(path);
        let methods: &'static sqlite3_io_methods = &*(*file).pMethods;
        let mut disk = lock();
        let disk = disk.get_or_insert_default();
        let with_ours = disk.replaced.entry(ptr::from_ref(methods) as usize).or_insert_with(|| {
            let mut ours = *methods;
            ours.xClose = Some(close);
            ours.xWrite = Some(write);
            ours.xTruncate = Some(truncate);
            ours.xSync = Some(sync);
            Box::leak(Box::new(ours))
        });
        (*file).pMethods = ptr::from_ref(*with_ours);
        disk.images
            .entry(path.clone())
            .or_insert_with(|| Image { synced: fs::read(&path).unwrap_or_default(), since: Vec::new() });
        disk.open.insert(file as usize, Open { methods, path });
        result
    }
}

unsafe extern "C" fn delete(vfs: *mut sqlite3_vfs, name: *const c_char, sync_folder: c_int) -> c_int {
    // SAFETY: as for `open`.
    unsafe {
        if let Ok(path) = CStr::from_ptr(name).to_str() {
            lock().get_or_insert_default().images.remove(Path::new(path));
        }
        (*default_vfs()).xDelete.map_or(ffi::SQLITE_ERROR, |delete| delete(vfs, name, sync_folder))
    }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    let Some(open) = lock().get_or_insert_default().open.remove(&(file as usize)) else { return ffi::SQLITE_ERROR };
    // SAFETY: the file's own method, with what SQLite gave.
    open.methods.xClose.map_or(ffi::SQLITE_ERROR, |close| unsafe { close(file) })
}

unsafe extern "C" fn write(file: *mut sqlite3_file, bytes: *const c_void, length: c_int, at: sqlite3_int64) -> c_int {
    let Some(write) = original(file).and_then(|methods| methods.xWrite) else { return ffi::SQLITE_ERROR };
    // SAFETY: the file's own method, with what SQLite gave; `bytes` are `length` bytes, as SQLite promises.
    let (result, bytes) = unsafe {
        let result = write(file, bytes, length, at);
        (result, std::slice::from_raw_parts(bytes.cast::<u8>(), usize::try_from(length).unwrap_or(0)))
    };
    if let (SQLITE_OK, Some(image)) = (result, lock().get_or_insert_default().image(file)) {
        image.since.push(Change::Write { at: usize::try_from(at).unwrap_or(0), bytes: bytes.to_vec() });
    }
    result
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: sqlite3_int64) -> c_int {
    let Some(truncate) = original(file).and_then(|methods| methods.xTruncate) else { return ffi::SQLITE_ERROR };
    // SAFETY: the file's own method, with what SQLite gave.
    let result = unsafe { truncate(file, size) };
    if let (SQLITE_OK, Some(image)) = (result, lock().get_or_insert_default().image(file)) {
        image.since.push(Change::Truncate { to: usize::try_from(size).unwrap_or(0) });
    }
    result
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    let Some(sync) = original(file).and_then(|methods| methods.xSync) else { return ffi::SQLITE_ERROR };
    // SAFETY: the file's own method, with what SQLite gave.
    let result = unsafe { sync(file, flags) };
    if let (SQLITE_OK, Some(image)) = (result, lock().get_or_insert_default().image(file)) {
        for change in std::mem::take(&mut image.since) {
            match change {
                Change::Write { at, bytes } => put(&mut image.synced, at, &bytes),
                Change::Truncate { to } => image.synced.resize(to, 0),
            }
        }
    }
    result
}
