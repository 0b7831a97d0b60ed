//! The ONNX Runtime library: one file out of its Python wheel, pinned by digest.
//!
//! Source: wheel `onnxruntime` of the Python package index, fetched by pip, unpacked by Python. The
//! library and its licence texts lie in `.hearth/onnxruntime/<version>/<system>-<processor>/`.

use std::env::consts::{ARCH, OS};
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::print;
use crate::python::Python;
use crate::stamp::sha256_of_file;
use crate::workspace::Workspace;

/// The variable that names another library; the programs of Hearth read it too.
pub(crate) const VARIABLE: &str = "HEARTH_ONNXRUNTIME";

const VERSION: &str = "1.31.1";
/// Any Python's wheel holds the same library; naming one makes the digest independent of the one installed.
const WHEEL_PYTHON: &str = "3.13";
const LICENCE_TEXTS: [&str; 2] = ["onnxruntime/LICENSE", "onnxruntime/ThirdPartyNotices.txt"];

/// Unpacks members of a zip archive into a folder, without their paths.
const UNPACK: &str = "\
import os, shutil, sys, zipfile
archive, folder, *members = sys.argv[1:]
with zipfile.ZipFile(archive) as opened:
    for member in members:
        with opened.open(member) as source, open(os.path.join(folder, os.path.basename(member)), 'wb') as target:
            shutil.copyfileobj(source, target)
";

/// What is published for one platform. Digests are SHA-256.
struct Wheel {
    system: &'static str,
    processor: &'static str,
    /// The platform as pip names it.
    tag: &'static str,
    digest: &'static str,
    library: &'static str,
    library_digest: &'static str,
}

const WHEELS: [Wheel; 5] = [
    Wheel {
        system: "linux",
        processor: "x86_64",
        tag: "manylinux_2_28_x86_64",
        digest: "74a6a52994616c4d18b33db1e13c226333a70a6ba07480a5cab9c2a50dff1430",
        library: "libonnxruntime.so.1.31.1",
        library_digest: "fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3",
    },
    Wheel {
        system: "linux",
        processor: "aarch64",
        tag: "manylinux_2_28_aarch64",
        digest: "dcaedc50333876f3829ab966b242147f0e548229e29c36fe44622ecf748c25ee",
        library: "libonnxruntime.so.1.31.1",
        library_digest: "8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467",
    },
    Wheel {
        system: "macos",
        processor: "aarch64",
        tag: "macosx_14_0_arm64",
        digest: "e4ad067d36e2220218e085d7223283b2ee1bc73d887e811fd14d21cf901a11ee",
        library: "libonnxruntime.1.31.1.dylib",
        library_digest: "07fde7652b628c2c744155cf49020f368ddf5e1e13fc17817d1350514446bef8",
    },
    Wheel {
        system: "windows",
        processor: "x86_64",
        tag: "win_amd64",
        digest: "0558f29d5f6ac09957390c9c5495931485ee8ae7f0ce781ccee86a0ae5c2348b",
        library: "onnxruntime.dll",
        library_digest: "68d0d5f502be4509e2a16f932627a95137d748b2fae519027f80125c0b1f550b",
    },
    Wheel {
        system: "windows",
        processor: "aarch64",
        tag: "win_arm64",
        digest: "075147c2e2430b4b29c436bffa78537b902a6ed58ed66f99ae3c6795e2081cb5",
        library: "onnxruntime.dll",
        library_digest: "d233038f6e67f6ebdca11c8aa8537e46f28fd02e9c21fa3072f62ce30be654b8",
    },
];

/// The absolute path of the library for this machine, fetched if it is not there yet.
///
/// # Errors
/// [`Error::RuntimeOverride`] if [`VARIABLE`] names no file by an absolute path, [`Error::Platform`] where
/// no library is published, [`Error::Digest`] if something else was delivered, and errors of Python and pip.
pub(crate) fn ensure(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from) {
        return checked_override(path);
    }
    let wheel = WHEELS
        .iter()
        .find(|wheel| wheel.system == OS && wheel.processor == ARCH)
        .ok_or_else(|| Error::Platform(format!("{OS} on {ARCH}")))?;
    wheel.ensure(&workspace.state().join("onnxruntime").join(VERSION))
}

fn checked_override(path: PathBuf) -> Result<PathBuf> {
    let expected = match (path.is_absolute(), path.is_file()) {
        (false, _) => "an absolute path",
        (true, false) => "a file",
        (true, true) => return Ok(path),
    };
    Err(Error::RuntimeOverride { path, expected })
}

impl Wheel {
    fn ensure(&self, versions: &Path) -> Result<PathBuf> {
        let folder = versions.join(format!("{}-{}", self.system, self.processor));
        let library = folder.join(self.library);
        if library.is_file() && sha256_of_file(&library)? == self.library_digest {
            return Ok(library);
        }
        print::step(&format!("Fetching ONNX Runtime {VERSION} for {} on {}", self.system, self.processor));
        let incoming = versions.join(format!("incoming-{}", std::process::id()));
        fs::create_dir_all(&incoming).map_err(Error::file("create", &incoming))?;
        let placed = self.fetch(&incoming).and_then(|unpacked| replace_folder(&unpacked, &folder));
        // Whatever happened, the half-made folder is of no use to anybody; a failure to remove it is no news.
        fs::remove_dir_all(&incoming).ok();
        placed.map(|()| library)
    }

    /// Downloads, verifies, unpacks and verifies again; returns the folder of the unpacked files.
    fn fetch(&self, incoming: &Path) -> Result<PathBuf> {
        let python = Python::find()?;
        python
            .program()
            .arguments(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"])
            .arguments(["--no-deps", "--only-binary=:all:", "--implementation", "cp"])
            .arguments(["--platform", self.tag, "--python-version", WHEEL_PYTHON, "--dest"])
            .argument(incoming)
            .argument(format!("onnxruntime=={VERSION}"))
            // A personal configuration of pip may allow it in virtual environments only; this installs nothing.
            .variable("PIP_REQUIRE_VIRTUALENV", "0")
            .run()?;
        let archive = only_file(incoming)?;
        verify(&archive, self.digest)?;
        let unpacked = incoming.join("unpacked");
        fs::create_dir_all(&unpacked).map_err(Error::file("create", &unpacked))?;
        python
            .program()
            .arguments(["-c", UNPACK])
            .arguments([&archive, &unpacked])
            .argument(format!("onnxruntime/capi/{}", self.library))
            .arguments(LICENCE_TEXTS)
            .run()?;
        verify(&unpacked.join(self.library), self.library_digest)?;
        Ok(unpacked)
    }
}

fn verify(path: &Path, expected: &str) -> Result<()> {
    let found = sha256_of_file(path)?;
    if found == expected {
        return Ok(());
    }
    Err(Error::Digest { path: path.to_path_buf(), expected: expected.to_owned(), found })
}

fn only_file(folder: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).map_err(Error::file("list", folder))?;
    let mut files = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_file());
    let missing = || std::io::Error::other("pip left no file there");
    files.next().ok_or_else(|| Error::file("find the wheel in", folder)(missing()))
}

/// Puts `new` in the place of `old`; renames, so nobody ever sees half of it, or none for as long as deleting takes.
fn replace_folder(new: &Path, old: &Path) -> Result<()> {
    let aside = old.with_extension("replaced");
    if aside.exists() {
        fs::remove_dir_all(&aside).map_err(Error::file("remove", &aside))?;
    }
    if old.exists() {
        fs::rename(old, &aside).map_err(Error::file("move", old))?;
    }
    fs::rename(new, old).map_err(Error::file("put the library into", old))?;
    if aside.exists() {
        fs::remove_dir_all(&aside).map_err(Error::file("remove", &aside))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_library_must_be_named_by_the_absolute_path_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("libonnxruntime.so");
        assert!(matches!(
            checked_override(library.clone()),
            Err(Error::RuntimeOverride { expected: "a file", .. })
        ));
        fs::write(&library, "").unwrap();
        assert_eq!(checked_override(library.clone()).unwrap(), library);
        let relative = checked_override("Cargo.toml".into());
        assert!(matches!(relative, Err(Error::RuntimeOverride { expected: "an absolute path", .. })));
    }

    #[test]
    fn a_file_with_another_digest_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wheel");
        fs::write(&path, "not the wheel").unwrap();
        assert!(matches!(verify(&path, WHEELS[0].digest), Err(Error::Digest { .. })));
    }

    #[test]
    fn the_table_names_each_platform_once_and_whole_digests() {
        for (position, wheel) in WHEELS.iter().enumerate() {
            let platform = (wheel.system, wheel.processor);
            let again =
                WHEELS[position + 1..].iter().any(|other| (other.system, other.processor) == platform);
            assert!(!again, "{platform:?} is listed twice");
            for digest in [wheel.digest, wheel.library_digest] {
                assert!(
                    digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()),
                    "{digest}"
                );
            }
        }
    }
}
