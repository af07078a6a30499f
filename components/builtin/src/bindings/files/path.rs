//! Where a name leads within a folder.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Symbolic links that one name may lead through.
const MOST_LINKS: usize = 64;

/// COMPAT(components-contrib bindings/localstorage): folders that hold the machine's or the platform's secrets.
const REFUSED: [&str; 4] = ["/proc", "/sys", "/boot", "/var/run/secrets"];

/// Whether nobody should keep files there. `path` is resolved.
pub(super) fn is_refused(path: &Path) -> bool {
    REFUSED.iter().any(|refused| {
        // `/var/run` is a link on most systems.
        path.starts_with(refused)
            || resolved(Path::new(refused)).is_ok_and(|refused| path.starts_with(refused))
    })
}

/// An absolute path without links; what of it does not exist yet stays as it is.
pub(super) fn resolved(path: &Path) -> io::Result<PathBuf> {
    let clean = clean(path);
    let mut missing: Vec<OsString> = Vec::new();
    let mut there = clean.as_path();
    loop {
        match fs::canonicalize(there) {
            Ok(found) => {
                if !found.is_dir() {
                    return Err(io::Error::other(
                        "property rootPath represents a file and not a directory",
                    ));
                }
                return Ok(missing.iter().rev().fold(found, |path, name| path.join(name)));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (Some(parent), Some(name)) = (there.parent(), there.file_name()) else {
                    return Err(error);
                };
                missing.push(name.to_owned());
                there = parent;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Without `.` and `..`, by the text alone.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean
}

/// The file that `name` means when `root` is the root of the file system: `..` stops there, and links are followed within
/// it. What does not exist is kept as it is.
pub(super) fn within(root: &Path, name: &str) -> io::Result<PathBuf> {
    if name.contains('\0') {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a name cannot have a zero byte",
        ));
    }
    let mut path = root.to_owned();
    let mut depth = 0_usize;
    let mut links = 0_usize;
    let mut left: Vec<OsString> = parts(Path::new(name));
    while let Some(part) = left.pop() {
        if part == ".." {
            if depth > 0 {
                path.pop();
                depth -= 1;
            }
            continue;
        }
        path.push(&part);
        let link = match fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => fs::read_link(&path)?,
            // A file, a folder, or nothing yet.
            Ok(_) => {
                depth += 1;
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                depth += 1;
                continue;
            }
            Err(error) => return Err(error),
        };
        links += 1;
        if links > MOST_LINKS {
            return Err(io::Error::other("it leads through too many symbolic links"));
        }
        path.pop();
        if link.is_absolute() {
            path = root.to_owned();
            depth = 0;
        }
        left.extend(parts(&link));
    }
    Ok(path)
}

/// The last part first; the root and `.` are left out.
fn parts(path: &Path) -> Vec<OsString> {
    let named = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    });
    let mut parts: Vec<OsString> = named.collect();
    parts.reverse();
    parts
}
