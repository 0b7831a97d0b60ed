//! One run of the program: the application opened for it, and the runtime that waits for its answers.

use std::sync::Arc;
use std::time::Duration;

use backend::{AppDirs, Backend, Inference, ReadyModel};
use tokio::sync::Notify;

use crate::arguments::Options;
use crate::error::{Error, Result};
use crate::interrupt::Interrupts;
use crate::print::Printer;

/// The application, for one run of the program.
pub(crate) struct Run {
    runtime: tokio::runtime::Runtime,
    inference: Inference,
    backend: Backend,
}

impl Run {
    /// Opens the application with what the command line asks for.
    ///
    /// # Errors
    /// A data folder that cannot be used, and a model that is not there.
    pub(crate) fn open(options: &Options) -> Result<Self> {
        let directories = AppDirs::of_this_program(None)?;
        // A window shows that nothing can be saved and goes on; whoever types a command wants it said at
        // once, by an exit code too.
        directories.check_data()?;
        Self::open_over(directories, options)
    }

    /// The same for a command that only reads: the data folder need not take anything.
    ///
    /// # Errors
    /// A model that is not there.
    pub(crate) fn open_to_read(options: &Options) -> Result<Self> {
        Self::open_over(AppDirs::of_this_program(None)?, options)
    }

    /// The same over these directories, whatever is wrong with them.
    ///
    /// # Errors
    /// A model that is not there.
    pub(crate) fn open_over(directories: AppDirs, options: &Options) -> Result<Self> {
        // One thread is enough: it waits, and inference has threads of its own.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::Setup { doing: "start the runtime", source: Box::new(error) })?;
        let inference = Inference::start();
        let backend = Backend::open_for_run(directories, inference.clone(), &options.overrides())?;
        Ok(Self { runtime, inference, backend })
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.backend
    }

    pub(crate) fn inference(&self) -> &Inference {
        &self.inference
    }

    /// Waits for an answer.
    pub(crate) fn wait<F: Future>(&self, answer: F) -> F::Output {
        self.runtime.block_on(answer)
    }

    /// The same, and does `meanwhile` now and then until the answer is there, and once more behind it.
    pub(crate) fn wait_and<F: Future>(&self, answer: F, mut meanwhile: impl FnMut()) -> F::Output {
        const PAUSE: Duration = Duration::from_millis(100);
        let output = self.wait(async {
            let mut answer = std::pin::pin!(answer);
            loop {
                match tokio::time::timeout(PAUSE, &mut answer).await {
                    Ok(output) => return output,
                    Err(_) => meanwhile(),
                }
            }
        });
        meanwhile();
        output
    }

    /// The model that answers, loaded; `None` where Ctrl-C came first.
    ///
    /// # Errors
    /// What kept the model from loading.
    pub(crate) fn load(&self, interrupts: &Interrupts) -> Result<Option<ReadyModel>> {
        self.until_interrupted(interrupts, self.backend.models().ready())
    }

    /// Waits for an answer; `None` where Ctrl-C came first.
    ///
    /// # Errors
    /// Those of the answer.
    pub(crate) fn until_interrupted<T>(
        &self,
        interrupts: &Interrupts,
        answer: impl Future<Output = backend::Result<T>>,
    ) -> Result<Option<T>> {
        let stopped = Arc::new(Notify::new());
        let stop = Arc::clone(&stopped);
        let _working = interrupts.working(move || stop.notify_one());
        self.wait(async {
            tokio::select! {
                answer = answer => Ok(Some(answer?)),
                () = stopped.notified() => Ok(None),
            }
        })
    }

    /// Prints what the user should know, each notice once.
    pub(crate) fn tell_notices(&self, printer: &mut Printer) {
        for notice in self.backend.notices() {
            printer.notice(notice.code, &notice.message);
            self.backend.dismiss_notice(&notice.id);
        }
    }

    /// Frees the model, so that nothing of it runs while the process ends. An interrupted load is not
    /// waited for.
    pub(crate) fn end(&self) -> Result<()> {
        Ok(self.wait(self.inference.unload())?)
    }
}
