//! Finds the driver's files where the host has them, which is not where this program sees them.
//!
//! The driver's root is a folder of the host (`/`, or the driver container's `/run/nvidia/driver`) that this program sees
//! under another path. Links in it mean files in it, so they are followed here, one by one, and never out of it.

use std::{
    collections::VecDeque,
    env,
    ffi::OsString,
    fs::{self, File},
    io::{self, Read as _},
    path::{Component, Path, PathBuf},
};

use object::{
    Endianness,
    elf::{DT_SONAME, DT_STRTAB, FileHeader64},
    read::{
        ReadCache, ReadRef,
        elf::{Dyn as _, FileHeader as _, ProgramHeader as _},
    },
};
use plasma_device_plugin_core::{
    DATA, Driver, DriverFile, FileKind, LIBRARY_PLACES, Library, PROGRAM_PLACES, PROGRAMS, SOCKETS,
    is_handed_over, names, paths_of,
};

/// As many links may lead from one to the next: the kernel's own limit.
const LINKS: usize = 40;
/// The longest SONAME that is believed.
const LONGEST_NAME: u64 = 255;

/// A driver's root.
#[derive(Clone, Debug)]
pub(crate) struct DriverRoot {
    /// Its path on the host.
    pub(crate) on_host: PathBuf,
    /// Its path for this program.
    pub(crate) seen_at: PathBuf,
    /// The host's `ldconfig`, where it is to be run for containers.
    pub(crate) ldconfig: Option<String>,
}

impl DriverRoot {
    /// Everything that containers get of the driver of this version.
    ///
    /// # Errors
    /// In words: no such driver is there.
    pub(crate) fn find(&self, version: &str) -> Result<Driver, String> {
        self.must_have_ldconfig()?;
        let cuda = format!("libcuda.so.{version}");
        let places = self.library_places();
        let found = places.iter().find(|place| self.real(&place.join(&cuda)).is_some());
        let Some(place) = found else {
            return Err(format!(
                "{cuda}, a library of the driver that runs, isn't anywhere below {} (seen at {}): name the driver's root \
                 with --driver-root, or choose --device-list-strategy device-nodes, with which containers get no libraries",
                self.on_host.display(),
                self.seen_at.display()
            ));
        };
        let (libraries, files) = (self.libraries(place, version), self.files(place, version));
        Ok(Driver { libraries, files, ldconfig: self.ldconfig.clone() })
    }

    /// Where this program sees the library of that name, now and with no link in its path; none where the root hasn't it.
    pub(crate) fn library(&self, name: &str) -> Option<PathBuf> {
        let in_place = |place: &PathBuf| self.real(&place.join(name)).map(|real| self.seen(&real));
        self.library_places().iter().filter_map(in_place).find(|file| has_64_bits(file))
    }

    /// A hook that isn't there keeps every container with a GPU from starting. It is a program of the host's: one outside
    /// of the driver's root can't be seen from here, and is believed.
    fn must_have_ldconfig(&self) -> Result<(), String> {
        let Some(hook) = &self.ldconfig else { return Ok(()) };
        let Ok(in_root) = Path::new(hook).strip_prefix(&self.on_host) else { return Ok(()) };
        let file = self.real(&Path::new("/").join(in_root)).map(|real| self.seen(&real));
        if file.is_some_and(|file| file.is_file()) {
            return Ok(());
        }
        Err(format!(
            "{hook}, which --ldcache-hook names, isn't a file of this node (looked for below {}), and no container with a GPU \
             would start: name the node's ldconfig, or leave the flag out",
            self.seen_at.display()
        ))
    }

    /// Folders of the root in which libraries may be: those of the loader's cache, the usual ones, and where the root is
    /// this program's own, those in which its own loader looks.
    fn library_places(&self) -> Vec<PathBuf> {
        let cache = self.real(Path::new("/etc/ld.so.cache")).and_then(|path| fs::read(self.seen(&path)).ok());
        let cached = cache.as_deref().map(|cache| paths_of(cache, "libcuda.so")).unwrap_or_default();
        let cached = cached.into_iter().filter_map(|path| Path::new(path).parent().map(Path::to_owned));
        let own =
            env::var_os("LD_LIBRARY_PATH").filter(|_| self.seen_at == Path::new("/")).unwrap_or_default();
        let own = env::split_paths(&own).filter(|place| place.is_absolute()).collect::<Vec<_>>();
        cached.chain(LIBRARY_PLACES.iter().map(PathBuf::from)).chain(own).collect()
    }

    fn libraries(&self, place: &Path, version: &str) -> Vec<Library> {
        let Some(folder) = self.real(place) else { return Vec::new() };
        let listed = fs::read_dir(self.seen(&folder)).into_iter().flatten().flatten();
        let mut file_names: Vec<String> = listed
            .filter_map(|file| file.file_name().into_string().ok())
            .filter(|name| is_handed_over(name, version))
            .collect();
        file_names.sort();
        let library = |name: &String| {
            let real = self.real(&folder.join(name))?;
            let soname = soname(&self.seen(&real));
            Some(Library { host_path: self.host_path(&real)?, names: names(name, soname.as_deref()) })
        };
        file_names.iter().filter_map(library).collect()
    }

    fn files(&self, libraries: &Path, version: &str) -> Vec<DriverFile> {
        let beside = libraries.parent().map(|parent| parent.join("bin"));
        let places: Vec<PathBuf> =
            beside.into_iter().chain(PROGRAM_PLACES.iter().map(PathBuf::from)).collect();
        let programs = PROGRAMS.iter().filter_map(|program| {
            places.iter().find_map(|place| self.file(FileKind::Program, &place.join(program)))
        });
        let data = DATA.iter().map(|path| path.replace("{version}", version));
        let data = data.filter_map(|path| self.file(FileKind::Data, Path::new(&path)));
        let sockets = SOCKETS.iter().filter_map(|path| self.file(FileKind::Socket, Path::new(path)));
        programs.chain(data).chain(sockets).collect()
    }

    fn file(&self, kind: FileKind, path: &Path) -> Option<DriverFile> {
        let host_path = self.host_path(&self.real(path)?)?;
        Some(DriverFile { kind, host_path, path: path.to_str()?.to_owned() })
    }

    /// The file's path in the root with no link in it, as the root sees it; none where there is no such file.
    fn real(&self, path: &Path) -> Option<PathBuf> {
        let mut steps: VecDeque<OsString> = names_of(path);
        let (mut real, mut links) = (PathBuf::from("/"), 0);
        while let Some(step) = steps.pop_front() {
            if step == ".." {
                real.pop();
                continue;
            }
            let next = real.join(&step);
            match fs::symlink_metadata(self.seen(&next)).ok()?.is_symlink() {
                false => real = next,
                true if links == LINKS => return None,
                true => {
                    links += 1;
                    let target = fs::read_link(self.seen(&next)).ok()?;
                    if target.is_absolute() {
                        real = PathBuf::from("/");
                    }
                    for step in names_of(&target).into_iter().rev() {
                        steps.push_front(step);
                    }
                }
            }
        }
        Some(real)
    }

    /// Where this program sees it.
    fn seen(&self, path: &Path) -> PathBuf {
        self.seen_at.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Where the host has it, if that can be written into a spec.
    fn host_path(&self, path: &Path) -> Option<String> {
        let path = self.on_host.join(path.strip_prefix("/").unwrap_or(path));
        path.to_str().map(str::to_owned)
    }

    /// Where this program sees a file of the host's that lies in the root.
    pub(crate) fn seen_of_host(&self, host_path: &str) -> Option<PathBuf> {
        Path::new(host_path).strip_prefix(&self.on_host).ok().map(|path| self.seen_at.join(path))
    }
}

fn names_of(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|step| match step {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.collect()
}

/// Hosts may keep libraries for programs of 32 bits beside the others.
fn has_64_bits(library: &Path) -> bool {
    let mut start = [0; 5];
    let read = File::open(library).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start == *b"\x7fELF\x02"
}

/// What a library calls itself: only the pages that say so are read, of files that have a hundred megabytes.
fn soname(path: &Path) -> Option<String> {
    let cache = ReadCache::new(File::open(path).ok().map(io::BufReader::new)?);
    let header = FileHeader64::<Endianness>::parse(&cache).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, &cache).ok()?;
    let dynamic = segments.iter().find_map(|segment| segment.dynamic(endian, &cache).ok().flatten())?;
    let value = |tag: i64| {
        let entry = dynamic.iter().find(|entry| entry.d_tag(endian) == tag)?;
        Some(entry.d_val(endian))
    };
    let (strings, name) = (value(DT_STRTAB)?, value(DT_SONAME)?);
    let address = strings.checked_add(name)?;
    let text = segments.iter().find_map(|segment| {
        let (start, size) = (segment.p_vaddr(endian), segment.p_filesz(endian));
        let within = address.checked_sub(start).filter(|within| *within < size)?;
        let (offset, longest) = (segment.p_offset(endian), size - within);
        let begin = offset.checked_add(within)?;
        Some(begin..begin.checked_add(longest.min(LONGEST_NAME))?)
    })?;
    let text = (&cache).read_bytes_at_until(text, 0).ok()?;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests;
