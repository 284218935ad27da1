//! The loader's cache, `/etc/ld.so.cache`: which library lies where. The format is glibc's, `sysdeps/generic/dl-cache.h`.

/// How a cache of today's format begins; one of the older format may come before it.
const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
/// Magic, two counts, a byte of flags, padding, an offset, and room for more.
const HEADER: usize = 48;
/// Flags, two offsets, a version, capabilities.
const ENTRY: usize = 24;
/// More is no cache: ten thousand libraries take a tenth of it.
const LONGEST: usize = 16 << 20;

/// Where the libraries lie whose names begin so, in the cache's order. What isn't a cache, or is cut off, names none.
pub fn paths_of<'a>(cache: &'a [u8], beginning: &str) -> Vec<&'a str> {
    let Some(start) = cache.windows(MAGIC.len()).position(|window| window == MAGIC) else {
        return Vec::new();
    };
    let cache = cache.get(start..).unwrap_or_default();
    let count = number(cache, MAGIC.len()).unwrap_or(0) as usize;
    if cache.len() > LONGEST {
        return Vec::new();
    }
    let entries = (0..count).map_while(|index| {
        let entry = HEADER.checked_add(index.checked_mul(ENTRY)?)?;
        Some((text(cache, number(cache, entry + 4)?)?, text(cache, number(cache, entry + 8)?)?))
    });
    entries.filter(|(name, _)| name.starts_with(beginning)).map(|(_, path)| path).collect()
}

/// Offsets count from where the cache begins.
fn number(cache: &[u8], at: usize) -> Option<u32> {
    let bytes = cache.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// The text that begins there and ends with a zero.
fn text(cache: &[u8], at: u32) -> Option<&str> {
    let rest = cache.get(usize::try_from(at).ok()?..)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(rest.get(..end)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn cache(libraries: &[(&str, &str)]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(u32::try_from(libraries.len()).unwrap().to_ne_bytes());
        bytes.resize(HEADER, 0);
        let mut strings = Vec::new();
        for (name, path) in libraries {
            let mut put = |text: &str| {
                let at = HEADER + libraries.len() * ENTRY + strings.len();
                strings.extend(text.bytes().chain([0]));
                u32::try_from(at).unwrap().to_ne_bytes()
            };
            bytes.extend(0x0303_u32.to_ne_bytes().into_iter().chain(put(name)).chain(put(path)));
            bytes.extend([0; 12]);
        }
        bytes.extend(strings);
        bytes
    }

    const TWO: [(&str, &str); 2] =
        [("libcuda.so.1", "/usr/lib64/libcuda.so.1"), ("libc.so.6", "/lib64/libc.so.6")];

    #[test]
    fn libraries_are_found_by_how_their_names_begin() {
        assert_eq!(paths_of(&cache(&TWO), "libcuda.so"), ["/usr/lib64/libcuda.so.1"]);
        let behind_the_older_format: Vec<u8> =
            b"ld.so-1.7.0\0and so on".iter().copied().chain(cache(&TWO)).collect();
        assert_eq!(paths_of(&behind_the_older_format, "libc.so"), ["/lib64/libc.so.6"]);
        assert!(paths_of(b"something else", "lib").is_empty());
    }

    proptest! {
        #[test]
        fn whatever_it_holds_it_is_read_without_a_fault(
            cut in 0_usize..150, changes in vec((0_usize..150, any::<u8>()), 0..6),
        ) {
            let mut bytes = cache(&TWO);
            for (at, byte) in changes {
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
            }
            bytes.truncate(cut);
            prop_assert!(paths_of(&bytes, "lib").len() <= bytes.len());
        }
    }
}
