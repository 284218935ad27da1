//! Where things are: the checkout, and the cache that outlives it.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// The root of this checkout.
pub(crate) fn repository() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_owned()
}

/// What is kept between runs and shared by checkouts: `$PLASMA_CACHE`, else `$XDG_CACHE_HOME/plasma`, else `~/.cache/plasma`.
pub(crate) fn cache() -> Result<PathBuf> {
    let named = env::var_os("PLASMA_CACHE").map(PathBuf::from);
    let xdg = || env::var_os("XDG_CACHE_HOME").map(|base| PathBuf::from(base).join("plasma"));
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/plasma"));
    named
        .or_else(xdg)
        .or_else(home)
        .context("neither PLASMA_CACHE nor HOME is set: where shall built tools be kept?")
}

/// The state of the one local cluster: gone after `cluster down`.
pub(crate) fn cluster() -> Result<PathBuf> {
    Ok(cache()?.join("cluster"))
}

/// Logs of long steps that belong to no daemon.
pub(crate) fn logs() -> Result<PathBuf> {
    let logs = cache()?.join("logs");
    std::fs::create_dir_all(&logs).with_context(|| format!("create {}", logs.display()))?;
    Ok(logs)
}
