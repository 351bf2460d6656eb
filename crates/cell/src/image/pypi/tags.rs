//! Names of wheels, and whether one runs on the Python of `base`:
//! `NAME-VERSION[-BUILD]-PYTHON-ABI-PLATFORM.whl`, the last three a set each, joined by `.`.

use pep440_rs::Version;

use super::python::Python;
use super::requirement::Name;

/// Most characters in the name of a file.
const MAX_NAME: usize = 512;

/// What the name of a wheel says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WheelName {
    /// The package.
    pub(super) package: Name,
    /// Its version.
    pub(super) version: Version,
    build: u64,
    pythons: Vec<String>,
    abis: Vec<String>,
    platforms: Vec<String>,
}

/// How well a wheel fits; the greatest is taken, as pip does: for this system before for any, for this Python before for
/// several, for a newer C library before for an older one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fit {
    native: bool,
    abi: u8,
    python: u64,
    glibc: u64,
    build: u64,
}

impl WheelName {
    /// Reads the name of a file; `None` where that is no wheel's.
    pub(super) fn parse(file: &str) -> Option<Self> {
        let stem = file.strip_suffix(".whl").filter(|_| file.len() <= MAX_NAME)?;
        let parts: Vec<&str> = stem.split('-').collect();
        let (package, version, build, [pythons, abis, platforms]) = match *parts.as_slice() {
            [package, version, p, a, s] => (package, version, "0", [p, a, s]),
            [package, version, build, p, a, s] => (package, version, build, [p, a, s]),
            _ => return None,
        };
        let digits = build.find(|c: char| !c.is_ascii_digit()).unwrap_or(build.len());
        let set = |text: &str| text.split('.').map(str::to_owned).collect();
        Some(Self {
            package: Name::parse(package)?,
            version: version.parse().ok()?,
            build: build.get(..digits)?.parse().ok()?,
            pythons: set(pythons),
            abis: set(abis),
            platforms: set(platforms),
        })
    }

    /// How well it fits; `None` where it does not run there.
    pub(super) fn fit(&self, python: &Python) -> Option<Fit> {
        let (native, glibc) = self.platforms.iter().filter_map(|tag| platform(tag, python)).max()?;
        let pairs = self.pythons.iter().flat_map(|tag| self.abis.iter().map(move |abi| (tag, abi)));
        let (abi, version) = pairs.filter_map(|(tag, abi)| interpreter(tag, abi, python)).max()?;
        Some(Fit { native, abi, python: version, glibc, build: self.build })
    }
}

/// Whether a platform is this one, and the version of glibc that it names.
fn platform(tag: &str, python: &Python) -> Option<(bool, u64)> {
    if tag == "any" {
        return Some((false, 0));
    }
    let system = tag.strip_suffix("_x86_64")?;
    let glibc = match system {
        "linux" => 0,
        "manylinux1" => 5,
        "manylinux2010" => 12,
        "manylinux2014" => 17,
        _ => system.strip_prefix("manylinux_2_")?.parse().ok()?,
    };
    (glibc <= python.glibc).then_some((true, glibc))
}

/// How well a Python with its binary interface fits, and the version that it names.
fn interpreter(tag: &str, abi: &str, python: &Python) -> Option<(u8, u64)> {
    let (ours, digits) = match tag.strip_prefix("cp3") {
        Some(digits) => (true, digits),
        None => (false, tag.strip_prefix("py3")?),
    };
    let minor = if digits.is_empty() { None } else { Some(digits.parse::<u64>().ok()?) };
    if minor.is_some_and(|minor| minor > python.minor) {
        return None;
    }
    let same = minor == Some(python.minor);
    let level = match abi {
        "abi3" if ours => 3,
        "none" if ours && same => 2,
        "none" if !ours => 1,
        _ if ours && same && abi == tag => 4,
        _ => return None,
    };
    Some((level, minor.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wheels_fit_as_pip_says() {
        let python = Python::debian_12();
        // The best first.
        let ordered = [
            "x-1-2-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64",
            "x-1-1b-cp311-cp311-manylinux_2_17_x86_64",
            "x-1-cp311-cp311-manylinux2014_x86_64",
            "x-1-cp311-cp311-manylinux1_x86_64",
            "x-1-cp311-cp311-linux_x86_64",
            "x-1-cp39-abi3-manylinux_2_28_x86_64",
            "x-1-cp38-abi3-manylinux_2_34_x86_64",
            "x-1-cp311-none-manylinux_2_17_x86_64",
            "x-1-py3-none-manylinux_2_17_x86_64",
            "x-1-cp311-none-any",
            "x-1-py311-none-any",
            "x-1-py2.py3-none-any",
        ];
        let fit = |stem: &str| WheelName::parse(&format!("{stem}.whl")).unwrap().fit(&python);
        let fits: Vec<Fit> =
            ordered.iter().map(|stem| fit(stem).unwrap_or_else(|| panic!("{stem}"))).collect();
        assert!(fits.is_sorted_by(|a, b| a > b), "{fits:?}");
        for none in [
            "x-1-cp312-cp312-manylinux_2_17_x86_64",
            "x-1-cp310-cp310-manylinux_2_17_x86_64",
            "x-1-cp311-cp311t-manylinux_2_17_x86_64",
            "x-1-cp311-cp311-manylinux_2_37_x86_64",
            "x-1-cp311-cp311-manylinux_3_0_x86_64",
            "x-1-cp311-cp311-musllinux_1_2_x86_64",
            "x-1-cp311-cp311-manylinux_2_17_aarch64",
            "x-1-cp311-cp311-win_amd64",
            "x-1-cp312-abi3-linux_x86_64",
            "x-1-pp311-pypy311_pp73-manylinux_2_17_x86_64",
            "x-1-py2-none-any",
            "x-1-py312-none-any",
            "x-1-cp310-none-any",
        ] {
            assert_eq!(fit(none), None, "{none}");
        }
    }

    #[test]
    fn what_is_no_wheel_s_name_is_none() {
        for bad in [
            "x-1.tar.gz",
            "x.whl",
            "x-1-py3-none.whl",
            "x-one-py3-none-any.whl",
            "../x-1-py3-none-any.whl",
            "x-1-b-py3-none-any.whl",
        ] {
            assert_eq!(WheelName::parse(bad), None, "{bad}");
        }
        let name = WheelName::parse("Foo.Bar_baz-1.0+local.1-py3-none-any.whl").unwrap();
        assert_eq!(
            (name.package.as_str(), name.version.to_string().as_str()),
            ("foo-bar-baz", "1.0+local.1")
        );
    }
}
