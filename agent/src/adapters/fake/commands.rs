//! Programs that are closures. One that nobody gave is not installed.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::ports::{CommandError, Commands, Invocation, Once, Output, Run};

type Program = Box<dyn Fn(&Invocation) -> Output + Send + Sync>;

#[derive(Default)]
pub struct FakeCommands {
    programs: Mutex<HashMap<String, Program>>,
    ran: Mutex<Vec<Vec<String>>>,
    under_way: Mutex<BTreeMap<String, Run>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeCommands {
    pub fn install(&self, program: &str, does: impl Fn(&Invocation) -> Output + Send + Sync + 'static) {
        lock(&self.programs).insert(program.to_owned(), Box::new(does));
    }

    /// Started under this name by an agent that is gone; it ends when it is waited for.
    pub fn left_running(&self, name: &str, pid: u32) {
        let run = Run { name: name.to_owned(), pid, ticks: 1, age: 0 };
        lock(&self.under_way).insert(name.to_owned(), run);
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

    async fn once(&self, name: &str, invocation: Invocation) -> Result<Once, CommandError> {
        let under_way = lock(&self.under_way).get(name).cloned();
        match under_way {
            Some(run) => Ok(Once::UnderWay(run)),
            None => self.run(invocation).await.map(Once::Ended),
        }
    }

    async fn under_way(&self, name: &str) -> Result<Option<Run>, CommandError> {
        Ok(lock(&self.under_way).get(name).cloned())
    }

    async fn settled(&self) -> Result<(), CommandError> {
        Ok(())
    }

    async fn ended(&self, run: &Run, _most: Duration) -> Result<bool, CommandError> {
        lock(&self.under_way).remove(&run.name);
        Ok(true)
    }
}
