//! What tests beside the code need, and the PostgreSQL of the tests from outside.

use std::cell::RefCell;
use std::io::Write;

#[path = "../tests/wallet/http.rs"]
#[expect(dead_code, reason = "the tests from outside use the rest")]
pub mod http;
#[path = "../tests/wallet/postgres.rs"]
pub mod postgres;

thread_local! {
    static WRITTEN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What this thread logs.
pub struct Log(());

struct Writer;

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        WRITTEN.with_borrow_mut(|written| written.write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Starts to keep what this thread logs.
pub fn logged() -> Log {
    // One subscriber for all threads: with one for each, which of them sees a line depends on which met it first.
    let _ = tracing_subscriber::fmt().with_ansi(false).with_writer(|| Writer).try_init();
    WRITTEN.take();
    Log(())
}

impl Log {
    pub fn text(&self) -> String {
        WRITTEN.with_borrow(|written| String::from_utf8(written.clone()).unwrap())
    }

    /// How many lines hold a text.
    pub fn lines(&self, text: &str) -> usize {
        self.text().lines().filter(|line| line.contains(text)).count()
    }
}
