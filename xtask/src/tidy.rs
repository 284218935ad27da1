//! The architecture rules: which crate may know which, how large a file may be, what may not be said.

mod files;
mod layers;

use anyhow::{Result, bail};

/// Checks every rule; the error lists every breach.
pub(crate) fn check() -> Result<()> {
    let mut breaches = layers::check()?;
    breaches.extend(files::check()?);
    if breaches.is_empty() {
        return Ok(());
    }
    bail!("{} breaches of the house rules:\n  {}", breaches.len(), breaches.join("\n  "))
}
