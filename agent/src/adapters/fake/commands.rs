//! Programs that are closures. One that nobody gave is not installed.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::ports::{CommandError, Commands, Invocation, Output};

type Program = Box<dyn Fn(&Invocation) -> Output + Send + Sync>;

#[derive(Default)]
pub struct FakeCommands {
    programs: Mutex<HashMap<String, Program>>,
    ran: Mutex<Vec<Vec<String>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeCommands {
    pub fn install(&self, program: &str, does: impl Fn(&Invocation) -> Output + Send + Sync + 'static) {
        lock(&self.programs).insert(program.to_owned(), Box::new(does));
    }

    /// Argument vectors of all that ran with write access, in order.
    pub fn ran(&self) -> Vec<Vec<String>> {
        lock(&self.ran).clone()
    }
}

#[async_trait::async_trait]
impl Commands for FakeCommands {
    async fn run(&self, invocation: Invocation) -> Result<Output, CommandError> {
        if !invocation.read_only {
            lock(&self.ran).push(invocation.argv.clone());
        }
        match lock(&self.programs).get(invocation.program()) {
            Some(program) => Ok(program(&invocation)),
            None => Err(CommandError::NotFound { program: invocation.program().to_owned() }),
        }
    }
}
