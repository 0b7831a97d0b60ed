//! Takes a model folder of this machine into the library, after the checks that a download has.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tokio_util::sync::CancellationToken;

use crate::download::Inspect;
use crate::error::{Error, Result};
use crate::hub::{Digest, FileHasher, check_path, is_model_file};
use crate::store::files::{DiskRules, failed, make_folder, write_whole};
use crate::store::staging::{Staging, sweep};
use crate::store::{LINK, Manifest, ModelRecord, Origin, RecordedFile};

const CHUNK: usize = 1 << 20;
const DEEPEST: usize = 4;
/// After so many bytes the free room is looked at again.
const ROOM_INTERVAL: u64 = 16 << 20;
const MOST_FILES: usize = 1000;

/// How a folder comes into the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportMode {
    /// Its files are copied and compared with what they were from now on.
    Copy,
    /// It stays where it is; what happens to it there is not this library's business.
    Link,
}

/// A file of a model as it was found.
struct SourceFile {
    /// Within the folder, with `/` between its parts.
    path: String,
    size: u64,
    modified: Option<SystemTime>,
}

/// What an import works with.
pub(crate) struct Import<'i> {
    pub(crate) models: &'i Path,
    pub(crate) disk: &'i DiskRules,
    pub(crate) inspect: &'i Inspect,
    pub(crate) stop: &'i CancellationToken,
}

impl Import<'_> {
    /// Takes `source` in as `id`; `None` where a stop came first, and nothing is left then. `on_bytes` is told
    /// how many more were copied, and of how many.
    pub(crate) fn run(
        &self,
        source: &Path,
        id: &str,
        mode: ImportMode,
        on_bytes: &mut dyn FnMut(u64, u64),
    ) -> Result<Option<PathBuf>> {
        let real = source.canonicalize().map_err(|error| failed("open", source, &error))?;
        // There the real path has a form that not every program reads.
        let source =
            if cfg!(windows) { std::path::absolute(source).unwrap_or(real.clone()) } else { real.clone() };
        let Some(files) = model_files(&source, self.stop)? else { return Ok(None) };
        let record = ModelRecord {
            id: id.to_owned(),
            title: id.to_owned(),
            origin: Origin::Folder { path: source.clone() },
            licence: None,
            curated: false,
            files: Vec::new(),
        };
        check_name(id)?;
        make_folder(self.models)?;
        sweep(self.models);
        if real.starts_with(self.models.canonicalize().unwrap_or_else(|_| self.models.to_path_buf())) {
            let reason = "it is in the library already".to_owned();
            return Err(Error::Unsupported { what: format!("`{}`", source.display()), reason });
        }
        let target = self.models.join(id);
        if target.symlink_metadata().is_ok() {
            let reason = "a model of this name is there already; choose another name by --name".to_owned();
            return Err(Error::Library { doing: "import into", path: target.into(), reason: reason.into() });
        }
        let staging = Staging::take(self.models, id)?;
        // Nothing of an earlier try can be trusted to be of this folder.
        std::fs::remove_dir_all(&staging.folder).ok();
        make_folder(&staging.folder)?;
        let made = match mode {
            ImportMode::Copy => self.copy(&source, &files, record, &staging, on_bytes),
            ImportMode::Link => self.link(&source, &staging).map(Some),
        };
        match made {
            Ok(Some(())) => staging.install(&target).map(|()| Some(target)),
            Ok(None) => staging.discard().map(|()| None),
            Err(error) => {
                staging.discard().ok();
                Err(error)
            }
        }
    }

    fn link(&self, source: &Path, staging: &Staging) -> Result<()> {
        (self.inspect)(source)?;
        let text = serde_json::json!({ "folder": source }).to_string();
        let path = staging.folder.join(LINK);
        write_whole(&path, text.as_bytes()).map_err(|error| failed("write", &path, &error))
    }

    fn copy(
        &self,
        source: &Path,
        files: &[SourceFile],
        mut record: ModelRecord,
        staging: &Staging,
        on_bytes: &mut dyn FnMut(u64, u64),
    ) -> Result<Option<()>> {
        let total = files.iter().map(|file| file.size).sum();
        self.disk.check_before(&staging.folder, total)?;
        for SourceFile { path, size, .. } in files {
            let mut on_bytes = |bytes| on_bytes(bytes, total);
            let target = staging.folder.join(path);
            let Some(digest) = self.copy_file(&source.join(path), &target, *size, &mut on_bytes)? else {
                return Ok(None);
            };
            record.files.push(RecordedFile { path: path.clone(), source: path.clone(), size: *size, digest });
        }
        // Another program may still write the folder: what it had only made room for would count as right.
        if let Some(changed) = files.iter().find(|file| !file.is_unchanged(source)) {
            return Err(changed_meanwhile(&source.join(&changed.path)));
        }
        record.check()?;
        (self.inspect)(&staging.folder)?;
        staging.sync(&record);
        let manifest = Manifest::of(record);
        manifest
            .write(&staging.folder)
            .map_err(|error| failed("write the manifest of", &staging.folder, &error))?;
        Ok(Some(()))
    }

    fn copy_file(
        &self,
        source: &Path,
        target: &Path,
        size: u64,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<Option<Digest>> {
        if let Some(parent) = target.parent() {
            make_folder(parent)?;
        }
        let reading = |error: std::io::Error| failed("read", source, &error);
        let writing = |error: std::io::Error| failed("write", target, &error);
        let mut from = File::open(source).map_err(reading)?;
        let mut to = File::create_new(target).map_err(writing)?;
        let mut hasher = FileHasher::like(&Digest::Sha256([0; 32]), size);
        let (mut buffer, mut copied, mut unchecked) = (vec![0; CHUNK], 0, 0);
        loop {
            if self.stop.is_cancelled() {
                return Ok(None);
            }
            let length = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => length as u64,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(reading(error)),
            };
            if copied + length > size {
                return Err(changed_meanwhile(source));
            }
            unchecked += length;
            if unchecked >= ROOM_INTERVAL {
                unchecked = 0;
                self.disk
                    .check_during(target.parent().unwrap_or(target), ROOM_INTERVAL.min(size - copied))?;
            }
            let bytes = &buffer[..length as usize];
            hasher.update(bytes);
            to.write_all(bytes).map_err(writing)?;
            copied += length;
            on_bytes(length);
        }
        to.sync_all().map_err(writing)?;
        if copied != size {
            return Err(changed_meanwhile(source));
        }
        Ok(Some(hasher.finish()))
    }
}

impl SourceFile {
    /// Whether it is as it was found, as far as its length and time tell.
    fn is_unchanged(&self, folder: &Path) -> bool {
        std::fs::metadata(folder.join(&self.path))
            .is_ok_and(|now| now.len() == self.size && now.modified().ok() == self.modified)
    }
}

fn changed_meanwhile(path: &Path) -> Error {
    let reason = "it changed while it was copied; try again when nobody writes to it";
    Error::Library { doing: "copy", path: path.into(), reason: reason.into() }
}

fn check_name(id: &str) -> Result<()> {
    if engine::is_plain_file_name(id) && !id.starts_with('.') {
        return Ok(());
    }
    let reason = "a model's name has letters, digits, `.`, `_` and `-`; choose one by --name".to_owned();
    Err(Error::Name { name: id.to_owned(), reason })
}

/// The files of a model in `folder` by name; `None` where `stop` came first. What is no part of a model is left out.
fn model_files(folder: &Path, stop: &CancellationToken) -> Result<Option<Vec<SourceFile>>> {
    let mut found: Vec<SourceFile> = Vec::new();
    let mut pending = vec![(folder.to_path_buf(), String::new(), 1)];
    while let Some((place, prefix, depth)) = pending.pop() {
        if stop.is_cancelled() {
            return Ok(None);
        }
        let entries = std::fs::read_dir(&place).map_err(|error| failed("list", &place, &error))?;
        for entry in entries {
            let entry = entry.map_err(|error| failed("list", &place, &error))?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            let path = format!("{prefix}{name}");
            // Links are followed: what is copied is a real file, whatever it was.
            let Ok(metadata) = std::fs::metadata(entry.path()) else { continue };
            if name.starts_with('.') || check_path(&path).is_err() {
                continue;
            } else if metadata.is_dir() && depth < DEEPEST {
                pending.push((entry.path(), format!("{path}/"), depth + 1));
            } else if metadata.is_file() && is_model_file(&path) {
                found.push(SourceFile { path, size: metadata.len(), modified: metadata.modified().ok() });
            }
            if found.len() > MOST_FILES {
                let reason = format!("it has more than {MOST_FILES} files, so it is no folder of one model");
                return Err(Error::Unsupported { what: format!("`{}`", folder.display()), reason });
            }
        }
    }
    found.sort_by(|left, right| left.path.cmp(&right.path));
    if !found.iter().any(|file| file.path.ends_with(".onnx")) {
        let reason = "it holds no ONNX graph".to_owned();
        return Err(Error::Unsupported { what: format!("`{}`", folder.display()), reason });
    }
    Ok(Some(found))
}
