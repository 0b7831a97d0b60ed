//! Opens the ONNX Runtime library, once per process.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;

use super::library_file;
use crate::{Error, Result};

/// The environment variable that keeps ONNX Runtime's telemetry from starting. The switch in its API
/// comes too late for the first event, so this must be set before the library is loaded.
const TELEMETRY_SWITCH: &str = "ORT_DISABLE_TELEMETRY";

/// The opened library. Cheap to clone; the library stays loaded until the process ends.
#[derive(Clone)]
pub struct Runtime {
    pub(crate) environment: Environment,
    library: PathBuf,
    build: &'static str,
}

/// A process has one ONNX Runtime: `ort` keeps the first library that loads.
static OPENED: Mutex<Option<Runtime>> = Mutex::new(None);

impl Runtime {
    /// Opens the library at the absolute path `library`.
    ///
    /// # Errors
    /// [`Error::Library`] where the file is missing, is no ONNX Runtime, is older than this engine needs,
    /// is not the library already in use, or where the caller has not set `ORT_DISABLE_TELEMETRY=1`.
    /// After an error another path may be tried.
    pub fn open(library: &Path) -> Result<Self> {
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = opened.as_ref() {
            return if runtime.library == library {
                Ok(runtime.clone())
            } else {
                let used = runtime.library.display();
                Err(refused(library, format!("`{used}` is in use already; restart to change it"), None))
            };
        }
        if std::env::var_os(TELEMETRY_SWITCH).is_none_or(|value| value != "1") {
            return Err(refused(
                library,
                format!("{TELEMETRY_SWITCH}=1 must be set before it is loaded, so that it reports to nobody"),
                None,
            ));
        }
        if !library.is_absolute() {
            return Err(refused(
                library,
                "its path must be absolute, so that no other file is found".into(),
                None,
            ));
        }
        if !library.is_file() {
            return Err(refused(library, "there is no such file".into(), None));
        }
        match library_file::is_cut_short(library) {
            Ok(false) => {}
            Ok(true) => return Err(refused(library, "its file ends too early: copy it anew".into(), None)),
            Err(error) => return Err(refused(library, "it cannot be read".into(), Some(Box::new(error)))),
        }
        // A library that answers with nothing where ONNX Runtime has its table makes `ort` panic.
        let runtime = catch_unwind(AssertUnwindSafe(|| load(library))).unwrap_or_else(|_| {
            Err(refused(library, "it does not answer as ONNX Runtime does".into(), None))
        })?;
        tracing::info!(library = %library.display(), build = runtime.build, "opened ONNX Runtime");
        *opened = Some(runtime.clone());
        Ok(runtime)
    }

    /// The file that was loaded.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// What the library says of itself.
    pub fn build(&self) -> &'static str {
        self.build
    }

    /// The release, such as `1.31.1`, where the library's own words or else its file's name tell it.
    pub fn version(&self) -> Option<&str> {
        let (_, rest) = self.build.split_once("git-branch=")?;
        let branch = rest.split(',').next()?;
        let said = branch.strip_prefix("rel-").or_else(|| branch.strip_prefix('v'));
        said.or_else(|| version_in_name(self.library.file_name()?.to_str()?))
    }
}

/// The numbers in names such as `libonnxruntime.so.1.31.1` and `libonnxruntime.1.31.1.dylib`. Libraries
/// that were built from a tag without a branch do not tell their release in any other way.
fn version_in_name(name: &str) -> Option<&str> {
    let name = name.strip_prefix("libonnxruntime.")?;
    let version = name.strip_prefix("so.").or_else(|| name.strip_suffix(".dylib"))?;
    version.chars().all(|character| character.is_ascii_digit() || character == '.').then_some(version)
}

fn load(library: &Path) -> Result<Runtime> {
    let environment = ort::init_from(library)
        .map_err(|error| match error {
            ort::LoadDynamicError::BadVersion { version_str, .. } => {
                let needed = ort::MINOR_VERSION;
                refused(library, format!("it is version {version_str}; 1.{needed} or newer is needed"), None)
            }
            error => refused(library, "it does not load".into(), Some(Box::new(error))),
        })?
        .with_name("hearth")
        .with_telemetry(false)
        .build()
        .map_err(|error| refused(library, "it does not start".into(), Some(Box::new(error))))?;
    // It writes to stderr by itself. Every failure reaches this engine as an error, and the probe of the KV
    // back-end fails on purpose.
    environment.set_log_level(ort::logging::LogLevel::Fatal);
    Ok(Runtime { environment, library: library.to_path_buf(), build: ort::info() })
}

fn refused(
    library: &Path,
    reason: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::Library { path: library.to_path_buf(), reason, source }
}
