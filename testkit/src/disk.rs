//! A disk that is soon full: a file system in memory, of a stated size. Only root may mount one.

use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Unmounted when it is dropped.
pub struct Disk {
    folder: TempDir,
}

impl Disk {
    /// With room for so many mebibytes. `None`, said loudly, where it cannot be mounted.
    ///
    /// # Panics
    /// When there is no temporary folder to mount it on.
    pub fn mount(mebibytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mounted = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={mebibytes}m,mode=0777"),
                "tmpfs",
            ])
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            crate::servers::skipped("only root can mount a small disk");
            return None;
        }
        Some(Self { folder })
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// For a server that runs as somebody else.
    ///
    /// # Panics
    /// When there is no such user.
    pub fn give_to(&self, user: &str) {
        let given = Command::new("chown").arg(user).arg(self.path()).status();
        assert!(given.is_ok_and(|status| status.success()), "no user {user}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a server may still have files open. What fails here leaves an empty disk behind, and no test to tell.
        let _unmounted = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}
