//! Which of the driver's files a container gets, so that a program for GPUs runs in an image that has none of them.

/// What was found of a driver on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Driver {
    /// Its libraries.
    pub libraries: Vec<Library>,
    /// Its programs and everything else.
    pub files: Vec<DriverFile>,
    /// The host's `ldconfig`, where containers' loader caches are to name the libraries.
    pub ldconfig: Option<String>,
}

/// One library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// Where it lies on the host, with no link on the way.
    pub host_path: String,
    /// The names by which programs load it.
    pub names: Vec<String>,
}

/// A file that isn't a library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverFile {
    /// What it is.
    pub kind: FileKind,
    /// Where it lies on the host, with no link on the way.
    pub host_path: String,
    /// Under which path it was looked for in the driver's root.
    pub path: String,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A program: in the container it lies where programs do.
    Program,
    /// A file that a library reads, under the same path.
    Data,
    /// A socket of one of the driver's daemons.
    Socket,
}

/// What a library is for: for people, and for the table in the reference. One that isn't here is handed over all the same: a
/// newer driver splits its libraries in other ways, and CUDA loads the parts by name.
pub const LIBRARIES: [(&str, &str); 30] = [
    ("libcuda", "CUDA"),
    ("libcudadebugger", "CUDA: debugging"),
    ("libnvidia-ptxjitcompiler", "CUDA: compiles PTX"),
    ("libnvidia-nvvm", "CUDA: compiles, links at load time"),
    ("libnvidia-nvvm70", "CUDA: compiles for older programs"),
    ("libnvidia-gpucomp", "CUDA and graphics: compiles shaders and kernels"),
    ("libnvidia-pkcs11", "CUDA: confidential computing, with OpenSSL 1"),
    ("libnvidia-pkcs11-openssl3", "CUDA: confidential computing, with OpenSSL 3"),
    ("libnvidia-opencl", "OpenCL"),
    ("libnvidia-ml", "NVML, nvidia-smi"),
    ("libnvidia-cfg", "nvidia-smi, nvidia-persistenced"),
    ("libnvidia-allocator", "memory for video and graphics"),
    ("libnvidia-encode", "video: encodes"),
    ("libnvcuvid", "video: decodes"),
    ("libnvidia-opticalflow", "video: optical flow"),
    ("libnvidia-fbc", "video: captures frames"),
    ("libvdpau_nvidia", "video: VDPAU"),
    ("libnvoptix", "OptiX ray tracing"),
    ("libnvidia-rtcore", "ray tracing"),
    ("libnvidia-ngx", "DLSS"),
    ("libnvidia-glcore", "OpenGL, Vulkan"),
    ("libnvidia-eglcore", "OpenGL ES, EGL"),
    ("libnvidia-glsi", "EGL"),
    ("libnvidia-glvkspirv", "Vulkan: compiles SPIR-V"),
    ("libnvidia-tls", "OpenGL: thread-local storage"),
    ("libGLX_nvidia", "GLX"),
    ("libEGL_nvidia", "EGL"),
    ("libGLESv1_CM_nvidia", "OpenGL ES 1"),
    ("libGLESv2_nvidia", "OpenGL ES 2"),
    ("libnvidia-sandboxutils", "nvidia-ctk"),
];

/// Libraries of no use in a container: the X server's, and those of desktop settings.
const LEFT_OUT: [&str; 5] = [
    "libglxserver_nvidia",
    "libnvidia-gtk2",
    "libnvidia-gtk3",
    "libnvidia-wayland-client",
    "libnvidia-sandboxutils",
];

/// Libraries of the driver that don't bear its version.
const UNVERSIONED: [&str; 3] = ["libnvidia-nvvm70.so.4", "libnvidia-api.so.1", "libnvidia-egl-gbm.so.1"];

/// Libraries that programs also load, or link with, by the name without any number.
const BY_PLAIN_NAME: [&str; 4] = ["libcuda", "libnvidia-ml", "libnvcuvid", "libnvidia-encode"];

/// Programs of the driver.
pub const PROGRAMS: [&str; 5] = [
    "nvidia-smi",
    "nvidia-debugdump",
    "nvidia-persistenced",
    "nvidia-cuda-mps-control",
    "nvidia-cuda-mps-server",
];

/// Other files, where the driver has them. `{version}` is the driver's.
pub const DATA: [&str; 12] = [
    "/etc/OpenCL/vendors/nvidia.icd",
    "/etc/vulkan/icd.d/nvidia_icd.json",
    "/etc/vulkan/implicit_layer.d/nvidia_layers.json",
    "/usr/share/vulkan/icd.d/nvidia_icd.json",
    "/usr/share/vulkan/implicit_layer.d/nvidia_layers.json",
    "/usr/share/glvnd/egl_vendor.d/10_nvidia.json",
    "/usr/share/egl/egl_external_platform.d/15_nvidia_gbm.json",
    "/usr/share/nvidia/nvoptix.bin",
    "/lib/firmware/nvidia/{version}/gsp_ga10x.bin",
    "/lib/firmware/nvidia/{version}/gsp_tu10x.bin",
    "/usr/local/nvidia/firmware/nvidia/{version}/gsp_ga10x.bin",
    "/usr/local/nvidia/firmware/nvidia/{version}/gsp_tu10x.bin",
];

/// Sockets of the driver's daemons. Not the fabric manager's: whoever reaches that decides for the whole machine.
pub const SOCKETS: [&str; 1] = ["/run/nvidia-persistenced/socket"];

/// Folders in which drivers' libraries are installed, beside those that the loader's cache names: of Debian, with its
/// alternatives; of Red Hat and SUSE; of NVIDIA's containers and of Google's nodes; of NixOS.
pub const LIBRARY_PLACES: [&str; 12] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu/nvidia/current",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu/nvidia/current",
    "/usr/lib64",
    "/usr/lib64/nvidia",
    "/usr/lib",
    "/usr/lib/wsl/lib",
    "/usr/local/nvidia/lib64",
    "/home/kubernetes/bin/nvidia/lib64",
    "/opt/nvidia/lib64",
    "/run/opengl-driver/lib",
];

/// Folders in which drivers' programs are installed.
pub const PROGRAM_PLACES: [&str; 6] = [
    "/usr/bin",
    "/usr/sbin",
    "/usr/local/bin",
    "/usr/local/nvidia/bin",
    "/home/kubernetes/bin/nvidia/bin",
    "/run/current-system/sw/bin",
];

/// Whether a container gets the library of this file name, from a driver of this version.
pub fn is_handed_over(file_name: &str, version: &str) -> bool {
    let Some((stem, number)) = file_name.split_once(".so.") else { return false };
    let is_the_drivers = stem.starts_with("lib") && number == version;
    (is_the_drivers && !LEFT_OUT.contains(&stem)) || UNVERSIONED.contains(&file_name)
}

/// The names by which programs load a library: the one that it calls itself by, its SONAME, and for some the one without
/// any number. Without a SONAME, its file's name.
pub fn names(file_name: &str, soname: Option<&str>) -> Vec<String> {
    let is_plain = |name: &&str| !name.is_empty() && !name.contains('/');
    let soname = soname.filter(is_plain).unwrap_or(file_name);
    let stem = file_name.split(".so").next().unwrap_or_default();
    let plain = BY_PLAIN_NAME.contains(&stem).then(|| format!("{stem}.so"));
    let mut names = vec![soname.to_owned()];
    names.extend(plain.filter(|plain| plain != soname));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drivers_own_libraries_are_handed_over_and_nobody_elses() {
        for (name, expected) in [
            ("libcuda.so.580.159.04", true),
            ("libnvidia-something-new.so.580.159.04", true),
            ("libnvidia-nvvm70.so.4", true),
            ("libcuda.so.550.1", false),
            ("libcuda.so.1", false),
            ("libcuda.so", false),
            ("libglxserver_nvidia.so.580.159.04", false),
            ("libc.so.6", false),
            ("notes.so.580.159.04", false),
        ] {
            assert_eq!(is_handed_over(name, "580.159.04"), expected, "{name}");
        }
    }

    #[test]
    fn a_library_is_named_as_programs_load_it() {
        assert_eq!(names("libcuda.so.580", Some("libcuda.so.1")), ["libcuda.so.1", "libcuda.so"]);
        assert_eq!(names("libnvidia-tls.so.580", Some("libnvidia-tls.so.580")), ["libnvidia-tls.so.580"]);
        assert_eq!(names("libnvidia-tls.so.580", None), ["libnvidia-tls.so.580"]);
        assert_eq!(names("libx.so.1", Some("../../etc/shadow")), ["libx.so.1"], "a name is no path");
    }
}
