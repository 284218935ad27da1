//! What is printed. A reader who has had enough, such as `head`, is no fault, and never changes what is checked.

use std::io::{self, ErrorKind, Write};

use crate::failure::Failure;

/// Prints a line, or several, for whoever asked.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    write(&mut io::stdout().lock(), text)
}

/// Says something beside the answer: what is missing from it, or what is being asked.
pub(crate) fn note(text: &str) {
    // Nobody to say it to is no reason to end.
    let _ = write(&mut io::stderr().lock(), text);
}

fn write(to: &mut impl Write, text: &str) -> Result<(), Failure> {
    match writeln!(to, "{text}").and_then(|()| to.flush()) {
        Err(fault) if fault.kind() != ErrorKind::BrokenPipe => Err(Failure::Output(fault)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Refuses(ErrorKind);

    impl Write for Refuses {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn a_reader_who_has_gone_is_no_fault_and_a_full_disk_is() {
        assert!(write(&mut Refuses(ErrorKind::BrokenPipe), "receipts").is_ok());
        assert!(matches!(write(&mut Refuses(ErrorKind::StorageFull), "receipts"), Err(Failure::Output(_))));
        let mut printed = Vec::new();
        write(&mut printed, "receipts").expect("it is written");
        assert_eq!(printed, b"receipts\n");
    }
}
