//! The copy of the workspace that faults are put into.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::cargo;
use crate::verbs::tidy::tracked_files;

/// A copy of the workspace's files, with a target folder of its own that is kept between runs.
pub(crate) struct Tree {
    folder: PathBuf,
}

impl Tree {
    /// Brings the copy up to date: what git tracks or would track, as it is now. Files that are alike are left alone, so
    /// that cargo builds nothing twice.
    pub(crate) fn copy_of(root: &Path) -> Result<Tree> {
        let tree = Tree { folder: root.join("target/seeded") };
        let files: BTreeSet<String> =
            tracked_files(root)?.into_iter().filter(|path| root.join(path).is_file()).collect();
        for path in &files {
            let bytes = fs::read(root.join(path)).with_context(|| format!("reading {path}"))?;
            tree.write(path, &bytes)?;
        }
        remove_others(&tree.path(), &tree.path(), &files)?;
        Ok(tree)
    }

    /// The copy's root.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join("tree")
    }

    /// What the last suite printed.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("output.txt")
    }

    /// Cargo in the copy. Without debug information the programs are linked faster.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = cargo(&[]);
        command.current_dir(self.path()).env("CARGO_TARGET_DIR", self.folder.join("target"));
        command.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CXXFLAGS", "-O1");
        command
    }

    /// Writes a file, unless it is so already.
    pub(crate) fn write(&self, path: &str, bytes: impl AsRef<[u8]>) -> Result<()> {
        let to = self.path().join(path);
        if fs::read(&to).is_ok_and(|found| found == bytes.as_ref()) {
            return Ok(());
        }
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        }
        fs::write(&to, bytes).with_context(|| format!("writing {}", to.display()))
    }
}

/// Removes the files below `folder` that are not among `files`, whose paths are from `root` on.
fn remove_others(root: &Path, folder: &Path, files: &BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(root, &path, files)?;
        } else if !path.strip_prefix(root).is_ok_and(|path| files.contains(&*path.to_string_lossy())) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_the_files_of_the_workspace_and_no_others() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree { folder: root.path().to_owned() };
        tree.write("a/b.rs", "1").unwrap();
        tree.write("a/c.rs", "2").unwrap();
        let written = fs::metadata(tree.path().join("a/b.rs")).unwrap().modified().unwrap();
        tree.write("a/b.rs", "1").unwrap();
        assert_eq!(fs::metadata(tree.path().join("a/b.rs")).unwrap().modified().unwrap(), written);
        remove_others(&tree.path(), &tree.path(), &BTreeSet::from(["a/b.rs".to_owned()])).unwrap();
        assert!(tree.path().join("a/b.rs").exists() && !tree.path().join("a/c.rs").exists());
    }
}
