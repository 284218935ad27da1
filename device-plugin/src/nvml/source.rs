//! Where NVML is: in the driver's root, where the loader finds it, or a substitute at a path.

use std::path::{Path, PathBuf};

use super::DRIVER_LIBRARY;
use crate::driver_root::DriverRoot;

/// Where to load the library from, each time anew: after an upgrade of the driver it is another file.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// What was asked for: the driver's own by its name, or a substitute by its path.
    pub(crate) library: PathBuf,
    /// The driver's root.
    pub(crate) root: DriverRoot,
}

impl Source {
    /// Whether something else than the driver's own library is asked for.
    pub(super) fn is_substitute(&self) -> bool {
        self.library != Path::new(DRIVER_LIBRARY)
    }

    /// What to load now. A driver's root that this program sees elsewhere is none of its loader's places, so it is looked
    /// through here; where the library isn't in it, it may have been put into this container otherwise.
    pub(super) fn file(&self) -> PathBuf {
        let found = if self.is_looked_through() { self.root.library(DRIVER_LIBRARY) } else { None };
        found.unwrap_or_else(|| self.library.clone())
    }

    /// Where it was looked for in vain, to be said where it can't be loaded.
    pub(super) fn in_vain(&self, file: &Path) -> String {
        if !self.is_looked_through() || file != self.library {
            return String::new();
        }
        let (on_host, seen_at) = (self.root.on_host.display(), self.root.seen_at.display());
        format!(
            "; it isn't below the driver's root {on_host} (seen at {seen_at}) either: is the driver installed?"
        )
    }

    fn is_looked_through(&self) -> bool {
        !self.is_substitute() && self.root.seen_at != Path::new("/")
    }
}
