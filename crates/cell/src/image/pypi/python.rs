//! The Python of `base`: which version it is, and on which C library. That decides which wheels run there and which needs count.

use std::fs::File;
use std::path::Path;

use pep440_rs::Version;

use super::super::base::LIST;
use super::super::error::{ImageError, LayerError};
use super::super::layer::unpack;
use super::super::limits::ImageLimits;
use super::super::tarball::{MemberKind, TarReader};

/// Most bytes in that list.
const MAX_LIST: u64 = 1 << 20;

/// CPython 3 on 64-bit Linux with glibc 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Python {
    /// The `11` of 3.11.
    pub(super) minor: u64,
    /// All of its version, such as 3.11.2.
    pub(super) full: Version,
    /// The `36` of glibc 2.36.
    pub(super) glibc: u64,
}

impl Python {
    /// The one in the archive of `base`. Reads the whole archive, so it is not for tasks.
    pub(in super::super) fn of_base(layer: &Path, limits: ImageLimits) -> Result<Self, ImageError> {
        let file = File::open(layer).map_err(ImageError::io("open", layer))?;
        let list = list(file, limits).map_err(ImageError::layer("base"))?;
        Self::of_packages(&list).ok_or_else(|| ImageError::Tool {
            tool: "python3",
            why: "`base` has no Python 3 with glibc: packages of PyPI need a distribution that has, such as Debian".to_owned(),
        })
    }

    /// Reads the list of packages, `NAME_VERSION_ARCHITECTURE` each.
    pub(in super::super) fn of_packages(list: &str) -> Option<Self> {
        let version = |name: &str| {
            let line = list.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('_'))?;
            let version = line.split('_').next()?;
            // An epoch comes first, with its colon escaped.
            let version = version.split_once("%3a").map_or(version, |(_, version)| version);
            // What the distribution adds begins with another character.
            let own = version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(version.len());
            version.get(..own)?.trim_end_matches('.').parse::<Version>().ok()
        };
        let python = version("python3-minimal").or_else(|| version("python3"))?;
        let libc = version("libc6")?;
        let ([3, minor, ..], [2, glibc, ..]) = (python.release(), libc.release()) else { return None };
        let full = version(&format!("python3.{minor}-minimal")).unwrap_or_else(|| python.clone());
        Some(Self { minor: *minor, full, glibc: *glibc })
    }

    /// Its folder for packages that are added by hand, which Debian's Python finds by itself.
    pub(super) fn folder(&self) -> String {
        format!("usr/local/lib/python3.{}/dist-packages", self.minor)
    }

    /// The value of a marker's variable.
    pub(super) fn value(&self, variable: Variable) -> String {
        match variable {
            Variable::Version => format!("3.{}", self.minor),
            Variable::FullVersion => self.full.to_string(),
            Variable::Os => "posix".to_owned(),
            Variable::Platform => "linux".to_owned(),
            Variable::System => "Linux".to_owned(),
            Variable::Machine => "x86_64".to_owned(),
            Variable::Implementation => "cpython".to_owned(),
            Variable::Interpreter => "CPython".to_owned(),
            Variable::Kernel => String::new(),
        }
    }
}

/// What markers (PEP 508) may ask of a Python.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variable {
    /// Two numbers.
    Version,
    /// All numbers.
    FullVersion,
    /// `posix`.
    Os,
    /// `linux`.
    Platform,
    /// `Linux`.
    System,
    /// The processor.
    Machine,
    /// `cpython`.
    Implementation,
    /// `CPython`.
    Interpreter,
    /// The kernel's version, which is not known before there is a cell.
    Kernel,
}

impl Variable {
    /// The variable of this name, or of the name that it had before PEP 508.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "python_version" => Self::Version,
            "python_full_version" | "implementation_version" => Self::FullVersion,
            "os_name" | "os.name" => Self::Os,
            "sys_platform" | "sys.platform" => Self::Platform,
            "platform_system" => Self::System,
            "platform_machine" | "platform.machine" => Self::Machine,
            "implementation_name" => Self::Implementation,
            "platform_python_implementation" | "platform.python_implementation" | "python_implementation" => {
                Self::Interpreter
            }
            "platform_release" | "platform_version" | "platform.version" => Self::Kernel,
            _ => return None,
        })
    }
}

fn list(base: File, limits: ImageLimits) -> Result<String, LayerError> {
    let packed = base.metadata()?.len();
    let (_, archive) = unpack(base, packed, limits.ratio)?;
    let mut archive = TarReader::new(archive);
    let mut text = Vec::new();
    while let Some(member) = archive.next_member()? {
        if member.path != LIST.as_bytes() || member.kind != MemberKind::File || member.size > MAX_LIST {
            continue;
        }
        archive.contents(|_, bytes| {
            text.extend_from_slice(bytes);
            Ok(())
        })?;
        break;
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
impl Python {
    /// Debian 12's.
    pub(in super::super) fn debian_12() -> Self {
        Self { minor: 11, full: Version::new([3, 11, 2]), glibc: 36 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_python_of_base_is_known_from_its_packages() {
        let list = "libc6_2.36-9+deb12u13_amd64\nlibc-bin_2.36-9_amd64\npython3.11-minimal_3.11.2-6+deb12u6_amd64\n\
                    python3-minimal_3.11.2-1+b1_amd64\npython3.11_3.11.2-6+deb12u6_amd64\npython3_3.11.2-1+b1_amd64\n";
        assert_eq!(Python::of_packages(list), Some(Python::debian_12()));
        let other = "libc6_2.39-0ubuntu8.6_amd64\npython3_9%3a3.12.3-0ubuntu2.1_amd64\npython3.12-minimal_3.12.3~rc1_amd64";
        let python = Python::of_packages(other).unwrap();
        assert_eq!((python.minor, python.full.to_string().as_str(), python.glibc), (12, "3.12.3", 39));
        assert_eq!(python.folder(), "usr/local/lib/python3.12/dist-packages");
        for none in
            ["", "libc6_2.36-9_amd64", "python3_3.11.2-1_amd64", "libc6_2.36_x\npython3_2.7.18-1_amd64"]
        {
            assert_eq!(Python::of_packages(none), None, "{none}");
        }
    }
}
