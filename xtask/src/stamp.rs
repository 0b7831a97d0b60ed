//! Stamps: what was made from which contents, so that it is not made again.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::workspace::Workspace;

/// A digest over named contents; equal only if all names and contents are.
pub(crate) struct Fingerprint(Sha256);

impl Fingerprint {
    /// `recipe` names what is made and how; a changed recipe makes everything again.
    pub(crate) fn new(recipe: &str) -> Self {
        let mut fingerprint = Self(Sha256::new());
        fingerprint.part(recipe.as_bytes());
        fingerprint
    }

    pub(crate) fn text(mut self, text: &str) -> Self {
        self.part(text.as_bytes());
        self
    }

    /// Adds a file's contents; one that does not exist counts as such.
    pub(crate) fn file(mut self, path: &Path) -> Result<Self> {
        match fs::read(path) {
            Ok(contents) => self.part(&contents),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.part(b"no such file"),
            Err(error) => return Err(Error::file("read", path)(error)),
        }
        Ok(self)
    }

    /// Adds every file below `folder`, names and contents, except what lies at `excluded`.
    pub(crate) fn folder(mut self, folder: &Path, excluded: &[&str]) -> Result<Self> {
        let mut files = Vec::new();
        let excluded: Vec<PathBuf> = excluded.iter().map(|name| folder.join(name)).collect();
        collect_files(folder, &excluded, &mut files)?;
        files.sort();
        for file in files {
            let name = file.strip_prefix(folder).unwrap_or(&file);
            self.part(name.to_string_lossy().as_bytes());
            self = self.file(&file)?;
        }
        Ok(self)
    }

    pub(crate) fn finish(self) -> String {
        hexadecimal(&self.0.finalize())
    }

    /// The length goes first, so that no two sequences of parts read alike.
    fn part(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }
}

/// A remembered fingerprint.
pub(crate) struct Stamp {
    path: PathBuf,
}

impl Stamp {
    pub(crate) fn new(workspace: &Workspace, name: &str) -> Self {
        Self { path: workspace.state().join("stamps").join(name) }
    }

    pub(crate) fn is(&self, fingerprint: &str) -> bool {
        fs::read_to_string(&self.path).is_ok_and(|known| known == fingerprint)
    }

    /// Remembers the fingerprint; call it after the work has succeeded.
    pub(crate) fn set(&self, fingerprint: &str) -> Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
        }
        fs::write(&self.path, fingerprint).map_err(Error::file("write", &self.path))
    }

    /// Forgets it; call it before the work begins, so that half-done work is never taken for done.
    pub(crate) fn clear(&self) -> Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::file("remove", &self.path)(error))
            }
            _ => Ok(()),
        }
    }
}

/// SHA-256 of a file, in lower-case hexadecimal digits.
pub(crate) fn sha256_of_file(path: &Path) -> Result<String> {
    let mut file = fs::File::open(path).map_err(Error::file("open", path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut buffer).map_err(Error::file("read", path))?;
        if length == 0 {
            return Ok(hexadecimal(&hasher.finalize()));
        }
        hasher.update(&buffer[..length]);
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn collect_files(folder: &Path, excluded: &[PathBuf], files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::file("list", folder))? {
        let entry = entry.map_err(Error::file("list", folder))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(Error::file("inspect", &path))?;
        if excluded.contains(&path) {
            continue;
        } else if kind.is_dir() {
            collect_files(&path, excluded, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(folder: &Path) -> String {
        Fingerprint::new("test").folder(folder, &["dist"]).unwrap().finish()
    }

    #[test]
    fn a_fingerprint_follows_names_and_contents_but_not_what_is_excluded() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, contents: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, contents).unwrap();
        };
        write("src/a.ts", "one");
        let first = fingerprint(folder.path());
        write("dist/a.js", "built");
        assert_eq!(fingerprint(folder.path()), first, "what is built must not ask for another build");
        write("src/a.ts", "two");
        assert_ne!(fingerprint(folder.path()), first);
        write("src/a.ts", "one");
        assert_eq!(fingerprint(folder.path()), first);
        fs::rename(folder.path().join("src/a.ts"), folder.path().join("src/b.ts")).unwrap();
        assert_ne!(fingerprint(folder.path()), first);
    }

    #[test]
    fn a_cleared_stamp_fits_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let stamp = Stamp::new(&Workspace::at(folder.path()), "test");
        assert!(!stamp.is("a"));
        stamp.set("a").unwrap();
        assert!(stamp.is("a") && !stamp.is("b"));
        stamp.clear().unwrap();
        stamp.clear().unwrap();
        assert!(!stamp.is("a"));
    }

    #[test]
    fn the_digest_of_a_file_is_its_sha256() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        fs::write(&path, "abc").unwrap();
        assert_eq!(
            sha256_of_file(&path).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
