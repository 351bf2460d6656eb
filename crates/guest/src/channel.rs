//! The one way out of the machine: the virtio-serial port that the host named `lazaret.door`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::fault::{During, Fault};

/// The name that the host gave the port.
const NAME: &str = "lazaret.door";

/// How long the port may take to appear.
const PATIENCE: Duration = Duration::from_secs(30);

/// Opens the port, once it is there, for blocking reads and writes.
pub(crate) fn open() -> Result<File, Fault> {
    let since = Instant::now();
    loop {
        if let Some(device) = find(Path::new("/sys/class/virtio-ports"))
            && let Ok(port) = File::options().read(true).write(true).open(format!("/dev/{device}"))
        {
            return Ok(port);
        }
        if since.elapsed() > PATIENCE {
            return Err(Fault::new(format!("no virtio-serial port named `{NAME}` appeared")));
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// The device name of the port among those listed in this folder of sysfs.
fn find(ports: &Path) -> Option<String> {
    let entries = fs::read_dir(ports).ok()?;
    entries.flatten().find_map(|entry| {
        let name = fs::read_to_string(entry.path().join("name")).ok()?;
        (name.trim_end() == NAME).then(|| entry.file_name().to_string_lossy().into_owned())
    })
}

/// Fills the buffer. A port without a peer reads as ended; before the mux runs that only means that the host is not
/// there yet.
pub(crate) fn read_exact(port: &mut File, mut buffer: &mut [u8]) -> Result<(), Fault> {
    while !buffer.is_empty() {
        match port.read(buffer) {
            Ok(0) => thread::sleep(Duration::from_millis(1)),
            Ok(read) => buffer = buffer.get_mut(read..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).during("reading from the channel"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_found_by_its_name() {
        let ports = std::env::temp_dir().join(format!("lazaret-ports-{}", std::process::id()));
        for (device, name) in [("vport0p1", "org.other\n"), ("vport0p2", "lazaret.door\n")] {
            fs::create_dir_all(ports.join(device)).unwrap();
            fs::write(ports.join(device).join("name"), name).unwrap();
        }
        let found = find(&ports);
        fs::remove_dir_all(&ports).unwrap();
        assert_eq!(found.as_deref(), Some("vport0p2"));
        assert_eq!(find(&ports), None);
    }
}
