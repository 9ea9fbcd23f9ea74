//! Threads that give way: work that nobody waits for must not delay those who are waited for.
//!
//! Requests, the log and the live counts run at the usual priority. What runs here has its own
//! threads, which the kernel gives what the others leave, in proportion to how readily they give
//! way (`nice`; each step is about a quarter less). Threads that such a thread starts inherit it.

use std::io;
use std::thread::{Builder, JoinHandle};

/// How readily a thread gives way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivesWay {
    /// To whatever else there is to do, but before the rest of the background: it is waited for.
    Somewhat,
    /// To everything.
    Entirely,
}

impl GivesWay {
    const fn steps(self) -> i32 {
        match self {
            Self::Somewhat => 10,
            Self::Entirely => 19,
        }
    }
}

/// Starts a thread that gives way.
///
/// # Errors
/// As the operating system refuses threads.
pub fn spawn<T: Send + 'static>(
    name: &str,
    gives_way: GivesWay,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.to_owned()).spawn(move || {
        // On Linux this is of the calling thread alone. Where it is refused, work is done all the
        // same, at the usual priority.
        if let Err(error) = rustix::process::nice(gives_way.steps()) {
            tracing::debug!(%error, "a background thread keeps the usual priority");
        }
        work()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_background_thread_gives_way_and_its_starter_does_not() {
        let nice = || rustix::process::nice(0).unwrap();
        let before = nice();
        for gives_way in [GivesWay::Somewhat, GivesWay::Entirely] {
            let inherited = spawn("test", gives_way, move || {
                std::thread::spawn(nice).join().unwrap()
            });
            let expected = (before + gives_way.steps()).min(19);
            assert_eq!(inherited.unwrap().join().unwrap(), expected);
        }
        assert_eq!(nice(), before);
    }
}
