//! What a wheel says of itself (its `METADATA` and `entry_points.txt`): what it needs, and which commands it has.

use pep440_rs::{Version, VersionSpecifiers};

use super::python::Python;
use super::requirement::{Name, Requirement, specifiers};

/// Most bytes in a file that describes a package.
pub(super) const MAX_METADATA: u64 = 4 << 20;
/// Most needs of one package.
const MAX_NEEDS: usize = 5_000;

/// What a package needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Metadata {
    needs: Vec<Requirement>,
    python: VersionSpecifiers,
}

impl Metadata {
    /// Reads `METADATA` of this version of a package.
    ///
    /// # Errors
    /// Why it can't be used, for people.
    pub(super) fn parse(bytes: &[u8], name: &Name, version: &Version) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "its description is no text".to_owned())?;
        let (mut found, mut named, mut numbered) = (Self::default(), false, false);
        // What follows the first empty line is for people.
        for line in text.lines().take_while(|line| !line.is_empty()) {
            let Some((field, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            let is = |known: &str| field.eq_ignore_ascii_case(known);
            if is("name") {
                named = Name::parse(value).as_ref() == Some(name);
            } else if is("version") {
                numbered = value.parse::<Version>().ok().as_ref() == Some(version);
            } else if is("requires-dist") {
                found.needs.push(Requirement::parse(value)?);
            } else if is("requires-python") {
                found.python =
                    specifiers(value).ok_or("the Python that it needs can't be understood".to_owned())?;
            }
            if found.needs.len() > MAX_NEEDS {
                return Err(format!("it needs more than {MAX_NEEDS} packages"));
            }
        }
        if !named || !numbered {
            return Err("it describes another package or version than the index does".to_owned());
        }
        Ok(found)
    }

    /// Whether it runs on this Python.
    pub(super) fn runs_on(&self, python: &Python) -> bool {
        self.python.contains(&python.full)
    }

    /// All that it may need somewhere.
    pub(super) fn needs(&self) -> &[Requirement] {
        &self.needs
    }
}

/// A command, and the function that it calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    /// What it is called.
    pub(super) name: String,
    module: String,
    function: String,
}

impl Command {
    /// The `console_scripts` of `entry_points.txt`.
    ///
    /// # Errors
    /// Which line can't be a command.
    pub(super) fn parse_all(text: &str) -> Result<Vec<Self>, String> {
        let mut section = "";
        let mut commands: Vec<Self> = Vec::new();
        for line in
            text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';']))
        {
            if let Some(name) = line.strip_prefix('[') {
                section = name.trim_end_matches(']').trim();
                continue;
            }
            if section != "console_scripts" {
                continue;
            }
            let command = Self::parse(line).filter(|new| commands.iter().all(|old| old.name != new.name));
            commands.push(command.ok_or_else(|| {
                let shown: String = line.chars().take(200).collect();
                format!("`{}` is no command with a function", shown.escape_debug())
            })?);
        }
        Ok(commands)
    }

    /// Reads `name = module:function [extras]`. Both become part of a program, so they are identifiers and nothing else.
    fn parse(line: &str) -> Option<Self> {
        let (name, target) = line.split_once('=')?;
        let (name, target) = (name.trim(), target.trim());
        let target = target.split_once('[').map_or(target, |(target, _)| target.trim_end());
        let (module, function) = target.split_once(':')?;
        let (module, function) = (module.trim_end(), function.trim_start());
        let sound = command_is_sound(name) && is_dotted(module) && is_dotted(function);
        sound.then(|| Self {
            name: name.to_owned(),
            module: module.to_owned(),
            function: function.to_owned(),
        })
    }

    /// The program that is put in its place.
    pub(super) fn program(&self) -> String {
        let Self { name: _, module, function } = self;
        let object = function.split('.').next().unwrap_or(function);
        format!("#!/usr/bin/python3\nimport sys\nfrom {module} import {object}\nsys.exit({function}())\n")
    }
}

/// Whether this can be the name of a command: a file's name that is no path and no option.
pub(super) fn command_is_sound(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'+');
    (1..=100).contains(&name.len()) && !name.starts_with(['.', '-']) && name.bytes().all(inner)
}

/// Whether this is identifiers of Python, joined by dots. Those with other letters than ASCII's are not taken.
fn is_dotted(text: &str) -> bool {
    let is_one = |part: &str| {
        !part.is_empty()
            && !part.starts_with(|c: char| c.is_ascii_digit())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    text.len() <= 500 && text.split('.').all(is_one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wheel_s_description_is_read_and_must_be_its_own() {
        let text = "Metadata-Version: 2.4\nName: Foo_Bar\nVersion: 1.0\nRequires-Python: >=3.8\nRequires-Dist: a>=1\n\
                    Provides-Extra: x\nRequires-Dist: b; extra == 'x'\nLicense: a\n  b\n\nRequires-Dist: not-one\n";
        let (name, version) = (Name::parse("foo-bar").unwrap(), "1.0.0".parse().unwrap());
        let found = Metadata::parse(text.as_bytes(), &name, &version).unwrap();
        assert_eq!(found.needs.iter().map(|need| need.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(found.runs_on(&Python::debian_12()));
        let newer = text.replace(">=3.8", ">=3.12");
        assert!(!Metadata::parse(newer.as_bytes(), &name, &version).unwrap().runs_on(&Python::debian_12()));
        for (from, to) in [
            ("Foo_Bar", "other"),
            ("Version: 1.0", "Version: 2.0"),
            ("Name: Foo_Bar\n", ""),
            ("a>=1", "a >= one"),
            (">=3.8", "new"),
        ] {
            assert!(Metadata::parse(text.replace(from, to).as_bytes(), &name, &version).is_err(), "{to}");
        }
        let many = text.replace("Requires-Dist: a>=1\n", &"Requires-Dist: a\n".repeat(MAX_NEEDS + 1));
        assert!(Metadata::parse(many.as_bytes(), &name, &version).unwrap_err().contains("more than"));
        assert!(Metadata::parse(b"Name: \xff\n", &name, &version).is_err());
    }

    #[test]
    fn commands_are_names_and_identifiers_and_nothing_else() {
        let text = "# c\n[gui_scripts]\ng = g:g; evil\n[console_scripts]\n a-b = m.n : f.g [extra]\nc=m:main\n\n[x]\ny = z\n";
        let commands = Command::parse_all(text).unwrap();
        assert_eq!(commands.iter().map(|command| command.name.as_str()).collect::<Vec<_>>(), ["a-b", "c"]);
        assert_eq!(
            commands[0].program(),
            "#!/usr/bin/python3\nimport sys\nfrom m.n import f\nsys.exit(f.g())\n"
        );
        for bad in [
            "../a = m:f",
            "a/b = m:f",
            ".a = m:f",
            "-a = m:f",
            "a b = m:f",
            "a = m",
            "a = m:",
            "a = :f",
            "a = m:f()",
            "a = m:f;import os",
            "a = m import x;y:f",
            "a = m:f\u{2028}x",
            "a = m..n:f",
            "a = 1m:f",
            "a = m:é",
            "a",
            "a = m:f\na = m:g",
            &format!("{} = m:f", "a".repeat(101)),
        ] {
            assert!(Command::parse_all(&format!("[console_scripts]\n{bad}")).is_err(), "{bad}");
        }
    }
}
