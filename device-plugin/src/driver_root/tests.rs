//! Drivers laid out as on real machines, found in their roots.

use std::{collections::BTreeMap, os::unix::fs::symlink};

use plasma_device_plugin_core::{HandOut, Spec, spec};

use super::*;

mod against_nvidia_ctk;

const VERSION: &str = "580.159.04";

/// A host, and how this program sees it.
struct Host {
    folder: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn root(&self, on_host: &str) -> DriverRoot {
        DriverRoot { on_host: on_host.into(), seen_at: self.folder.path().to_owned(), ldconfig: None }
    }

    fn path(&self, path: &str) -> PathBuf {
        let path = self.folder.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn file(&self, path: &str) {
        fs::write(self.path(path), "x").unwrap();
    }

    /// A library that calls itself so.
    fn library(&self, path: &str, soname: &str) {
        fs::write(self.path(path), elf(soname)).unwrap();
    }

    fn link(&self, path: &str, target: &str) {
        symlink(target, self.path(path)).unwrap();
    }
}

/// The least that is a shared library with a SONAME: a header, two segments, a dynamic table, its strings.
fn elf(soname: &str) -> Vec<u8> {
    const ADDRESS: u64 = 0x10_0000;
    let strings = [b"\0", soname.as_bytes(), b"\0"].concat();
    let (dynamic, table) = (64 + 2 * 56, 3 * 16);
    let (start, size) = (dynamic + table, strings.len() as u64);
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let mut put = |bytes: &[u8]| file.extend_from_slice(bytes);
    put(&[3, 0, 62, 0, 1, 0, 0, 0]);
    [0_u64, 64, 0].iter().for_each(|field| put(&field.to_le_bytes()));
    put(&[0, 0, 0, 0]);
    [64_u16, 56, 2, 64, 0, 0].iter().for_each(|field| put(&field.to_le_bytes()));
    for (kind, at, length) in [(1_u32, 0, start + size), (2, dynamic, table)] {
        put(&kind.to_le_bytes());
        put(&4_u32.to_le_bytes());
        [at, ADDRESS + at, ADDRESS + at, length, length, 8]
            .iter()
            .for_each(|field| put(&field.to_le_bytes()));
    }
    for (tag, value) in [(5_u64, ADDRESS + start), (14, 1), (0, 0)] {
        put(&tag.to_le_bytes());
        put(&value.to_le_bytes());
    }
    put(&strings);
    file
}

fn by_name(driver: &Driver) -> BTreeMap<&str, &str> {
    let libraries = driver.libraries.iter();
    libraries
        .flat_map(|library| library.names.iter().map(|name| (name.as_str(), library.host_path.as_str())))
        .collect()
}

#[test]
fn a_library_is_handed_over_under_the_name_that_it_calls_itself_by() {
    let host = Host::new();
    host.library("/usr/lib64/libcuda.so.580.159.04", "libcuda.so.1");
    host.library("/usr/lib64/libnvidia-tls.so.580.159.04", "libnvidia-tls.so.580.159.04");
    host.file("/usr/lib64/libnvidia-odd.so.580.159.04");
    host.library("/usr/lib64/libcuda.so.550.1", "libcuda.so.1");
    host.file("/usr/bin/nvidia-smi");
    host.file("/etc/OpenCL/vendors/nvidia.icd");
    host.file("/run/nvidia-persistenced/socket");
    let driver = host.root("/run/nvidia/driver").find(VERSION).unwrap();
    assert_eq!(
        by_name(&driver),
        BTreeMap::from([
            ("libcuda.so", "/run/nvidia/driver/usr/lib64/libcuda.so.580.159.04"),
            ("libcuda.so.1", "/run/nvidia/driver/usr/lib64/libcuda.so.580.159.04"),
            ("libnvidia-odd.so.580.159.04", "/run/nvidia/driver/usr/lib64/libnvidia-odd.so.580.159.04"),
            ("libnvidia-tls.so.580.159.04", "/run/nvidia/driver/usr/lib64/libnvidia-tls.so.580.159.04"),
        ])
    );
    let files: Vec<_> = driver.files.iter().map(|file| (file.kind, file.host_path.as_str())).collect();
    assert_eq!(
        files,
        [
            (FileKind::Program, "/run/nvidia/driver/usr/bin/nvidia-smi"),
            (FileKind::Data, "/run/nvidia/driver/etc/OpenCL/vendors/nvidia.icd"),
            (FileKind::Socket, "/run/nvidia/driver/run/nvidia-persistenced/socket"),
        ]
    );
}

#[test]
fn links_are_followed_as_the_root_means_them_and_never_out_of_it() {
    let host = Host::new();
    host.library("/opt/driver/libcuda.so.580.159.04", "libcuda.so.1");
    host.link("/usr/lib/x86_64-linux-gnu/libcuda.so.580.159.04", "/etc/alternatives/cuda");
    host.link("/etc/alternatives/cuda", "../../opt/driver/libcuda.so.580.159.04");
    host.link("/usr/bin/nvidia-smi", "../../../../../../etc/hostname");
    host.link("/usr/bin/nvidia-debugdump", "nvidia-debugdump");
    let driver = host.root("/").find(VERSION).unwrap();
    assert_eq!(by_name(&driver)["libcuda.so.1"], "/opt/driver/libcuda.so.580.159.04");
    assert!(driver.files.is_empty(), "this machine's /etc/hostname isn't the root's: {:?}", driver.files);
}

#[test]
fn the_loaders_cache_says_where_an_unusual_driver_lies() {
    let host = Host::new();
    host.library("/srv/odd/libcuda.so.580.159.04", "libcuda.so.1");
    assert!(host.root("/").find(VERSION).is_err());
    let mut cache = b"glibc-ld.so.cache1.1\x01\0\0\0".to_vec();
    cache.resize(48, 0);
    let text = b"libcuda.so.1\0/srv/odd/libcuda.so.1\0";
    for field in [0x0303_u32, 72, 85, 0, 0, 0] {
        cache.extend(field.to_ne_bytes());
    }
    fs::write(host.path("/etc/ld.so.cache"), [cache.as_slice(), text].concat()).unwrap();
    let driver = host.root("/").find(VERSION).unwrap();
    assert_eq!(by_name(&driver)["libcuda.so.1"], "/srv/odd/libcuda.so.580.159.04");
}

#[test]
fn a_driver_of_another_version_is_not_the_one_that_runs() {
    let host = Host::new();
    host.library("/usr/lib64/libcuda.so.550.1", "libcuda.so.1");
    let fault = host.root("/run/nvidia/driver").find(VERSION).unwrap_err();
    for word in ["libcuda.so.580.159.04", "/run/nvidia/driver", "--driver-root", "device-nodes"] {
        assert!(fault.contains(word), "{word}: {fault}");
    }
}

#[test]
fn nvml_is_the_file_that_the_root_has_at_the_moment() {
    let host = Host::new();
    let root = host.root("/run/nvidia/driver");
    assert_eq!(root.library("libnvidia-ml.so.1"), None);
    for version in ["550.1", "580.1"] {
        let file = format!("/usr/lib/libnvidia-ml.so.{version}");
        host.library(&file, "libnvidia-ml.so.1");
        let link = host.path("/usr/lib/libnvidia-ml.so.1");
        let _ = fs::remove_file(&link);
        host.link("/usr/lib/libnvidia-ml.so.1", &format!("libnvidia-ml.so.{version}"));
        assert_eq!(root.library("libnvidia-ml.so.1"), Some(host.path(&file)));
    }
    fs::write(host.path("/usr/lib64/libnvidia-ml.so.1"), b"\x7fELF\x01 of 32 bits").unwrap();
    assert_eq!(root.library("libnvidia-ml.so.1"), Some(host.path("/usr/lib/libnvidia-ml.so.580.1")));
}

#[test]
fn a_hook_that_the_node_has_not_is_refused_in_words() {
    let host = Host::new();
    host.library("/usr/lib64/libcuda.so.580.159.04", "libcuda.so.1");
    let find = |on_host: &str, hook: &str| {
        DriverRoot { ldconfig: Some(hook.to_owned()), ..host.root(on_host) }.find(VERSION)
    };
    let fault = find("/", "/sbin/ldconfig").unwrap_err();
    for word in ["/sbin/ldconfig", "--ldcache-hook", "leave the flag out"] {
        assert!(fault.contains(word), "{word}: {fault}");
    }
    host.file("/usr/sbin/ldconfig");
    host.link("/sbin", "usr/sbin");
    assert_eq!(find("/", "/sbin/ldconfig").unwrap().ldconfig.as_deref(), Some("/sbin/ldconfig"));
    assert!(find("/", "/sbin").is_err(), "a folder is no program");
    let outside = find("/run/nvidia/driver", "/sbin/ldconfig.real");
    assert!(outside.is_ok(), "what lies outside of the root isn't seen: {outside:?}");
}

#[test]
fn a_library_that_is_no_library_has_no_name_of_its_own() {
    let host = Host::new();
    for (name, bytes) in
        [("empty", Vec::new()), ("cut", elf("libx.so.1")[..200].to_vec()), ("text", b"\x7fELF?".to_vec())]
    {
        let path = host.path(name);
        fs::write(&path, bytes).unwrap();
        assert_eq!(soname(&path), None, "{name}");
    }
    let own = PathBuf::from("/proc/self/maps");
    assert_eq!(soname(&own), None, "a file of no length");
}
