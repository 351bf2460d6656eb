//! Lays a wheel into the image (PEP 427): its modules where every Python of the image finds them, and the commands of the
//! package that was asked for. Nothing of it runs, and nothing is compiled: no parser of the host meets a stranger's program.

use std::fs::File;
use std::path::Path;

use pep440_rs::Version;

use super::super::error::{LayerError, shown};
use super::super::finish::put;
use super::super::layer::Assembly;
use super::super::limits::ImageLimits;
use super::super::tree::Meta;
use super::super::zip::{Entry, Zip};
use super::metadata::{Command, MAX_METADATA, command_is_sound};
use super::requirement::Name;

/// Where commands are.
const COMMANDS: &str = "usr/local/bin";
/// Most bytes in a script.
const MAX_SCRIPT: u64 = 1 << 20;

/// A wheel at hand.
pub(super) struct Archive {
    zip: Zip,
    /// `NAME-VERSION`, as its folders are called.
    stem: String,
}

/// Where a file of a wheel goes.
enum Place {
    /// To this path of the image.
    At(String),
    /// Among the commands, under this name.
    Command(String),
    /// Nowhere.
    LeftOut,
}

impl Archive {
    /// Opens a wheel, which must be the one of this version of the package.
    pub(super) fn open(
        path: &Path,
        name: &Name,
        version: &Version,
        limits: ImageLimits,
    ) -> Result<Self, LayerError> {
        let zip = Zip::open(File::open(path)?, limits)?;
        let folders = zip.entries().iter().filter_map(|entry| entry.path.split_once(".dist-info/"));
        let mut stems: Vec<&str> = folders.map(|(stem, _)| stem).filter(|stem| !stem.contains('/')).collect();
        stems.sort_unstable();
        stems.dedup();
        let bad = |why| LayerError::Zip { why };
        let [stem] = *stems.as_slice() else {
            return Err(bad("it has not one `.dist-info`, as a wheel has"));
        };
        let own = stem.rsplit_once('-').is_some_and(|(its_name, its_version)| {
            Name::parse(its_name).as_ref() == Some(name) && its_version.parse().ok().as_ref() == Some(version)
        });
        if !own {
            return Err(bad("its `.dist-info` is that of another package or version"));
        }
        let stem = stem.to_owned();
        let wheel = Self { zip, stem };
        let about = wheel.about("WHEEL")?.unwrap_or_default();
        let is_known = about.lines().any(|line| line.starts_with("Wheel-Version: 1."));
        if is_known { Ok(wheel) } else { Err(bad("it is no wheel of version 1")) }
    }

    /// What it says of itself, as bytes.
    pub(super) fn metadata(&self) -> Result<Vec<u8>, LayerError> {
        let found = self.zip.small(&format!("{}.dist-info/METADATA", self.stem), MAX_METADATA)?;
        found.ok_or(LayerError::Zip { why: "it has no `METADATA`, as a wheel has" })
    }

    /// Lays its files below `folder`, and its commands too where they are wanted.
    pub(super) fn lay(
        &self,
        folder: &str,
        commands: bool,
        assembly: &mut Assembly,
    ) -> Result<(), LayerError> {
        assembly.tree.next_layer();
        for entry in self.zip.entries() {
            match Self::place(entry, folder)? {
                Place::At(path) => {
                    let mode = if entry.executable { 0o755 } else { 0o644 };
                    let meta = Meta { mode, ..Meta::FILE };
                    assembly.add_contents(path.as_bytes(), meta, entry.size, |sink| {
                        self.zip.contents(entry, sink)
                    })?;
                }
                Place::Command(name) if commands => self.lay_script(entry, &name, assembly)?,
                Place::Command(_) | Place::LeftOut => {}
            }
        }
        if !commands {
            return Ok(());
        }
        let text = self.about("entry_points.txt")?.unwrap_or_default();
        for command in Command::parse_all(&text).map_err(LayerError::Command)? {
            lay_command(&command.name, command.program().as_bytes(), assembly)?;
        }
        Ok(())
    }

    /// A text of its `.dist-info`.
    fn about(&self, file: &str) -> Result<Option<String>, LayerError> {
        let found = self.zip.small(&format!("{}.dist-info/{file}", self.stem), MAX_METADATA)?;
        Ok(found.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn place(entry: &Entry, folder: &str) -> Result<Place, LayerError> {
        let of_data = entry.path.split_once('/').filter(|(top, _)| top.ends_with(".data"));
        let Some((_, rest)) = of_data else { return Ok(Place::At(format!("{folder}/{}", entry.path))) };
        Ok(match rest.split_once('/') {
            Some(("purelib" | "platlib", path)) => Place::At(format!("{folder}/{path}")),
            Some(("scripts", name)) if command_is_sound(name) => Place::Command(name.to_owned()),
            Some(("scripts", _)) => {
                let path = shown(entry.path.as_bytes());
                return Err(LayerError::Path { path, why: "is among the commands, and can't be called so" });
            }
            // No other place of the image is a package's to fill.
            Some(("data", path)) if path.starts_with("share/") => Place::At(format!("usr/local/{path}")),
            Some(_) | None => Place::LeftOut,
        })
    }

    /// A script in Python names no Python of a place, but asks for the one that it is installed with.
    fn lay_script(&self, entry: &Entry, name: &str, assembly: &mut Assembly) -> Result<(), LayerError> {
        let mut start = Vec::new();
        self.zip.contents(entry, |_, bytes| {
            let room = 16_usize.saturating_sub(start.len()).min(bytes.len());
            start.extend_from_slice(bytes.get(..room).unwrap_or_default());
            Ok(())
        })?;
        if !start.starts_with(b"#!python") {
            let (path, meta) = (format!("{COMMANDS}/{name}"), Meta::FOLDER);
            return assembly
                .add_contents(path.as_bytes(), meta, entry.size, |sink| self.zip.contents(entry, sink));
        }
        let script = self.zip.small(&entry.path, MAX_SCRIPT)?.unwrap_or_default();
        let body =
            script.iter().position(|b| *b == b'\n').and_then(|end| script.get(end..)).unwrap_or_default();
        lay_command(name, &[b"#!/usr/bin/python3".as_slice(), body].concat(), assembly)
    }
}

fn lay_command(name: &str, program: &[u8], assembly: &mut Assembly) -> Result<(), LayerError> {
    put(assembly, format!("{COMMANDS}/{name}").as_bytes(), program, Meta::FOLDER)
}
