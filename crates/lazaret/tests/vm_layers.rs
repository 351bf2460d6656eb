//! Root of the guest attacks the door and its machine's devices in real cells: the door cuts it off with a reason, and
//! nothing but its own cell is harmed.

use std::fs;
use std::path::Path;

use demo::report::{Outcome, Report};
use demo::{Ground, guest_root};
use testkit::Lab;

#[test]
fn root_of_the_guest_is_cut_off_and_harms_its_own_machine_alone() {
    let lazaret = Path::new(env!("CARGO_BIN_EXE_lazaret"));
    let lab = Lab::start(env!("CARGO_BIN_EXE_lazaret"), Vec::new());
    let ground = Ground {
        client: api::Client::new(lab.path("run/lazaret/api.sock")),
        hostile: fs::read(lazaret.with_file_name("lazaret-hostile")).unwrap(),
        images: lab.data().join("data/lazaret/images"),
        host_file: lab.path("serve.log"),
        model: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let reports = guest_root(&ground, &["stream-flood", "registers"], |_| Ok(()));
    let reports = runtime.block_on(reports).unwrap();
    assert!(reports.iter().all(|report| report.outcome == Outcome::Blocked), "{reports:#?}");
    let evidence =
        |id: &str| reports.iter().find(|r| r.id == id).map(|r: &Report| r.evidence.clone()).unwrap();
    let flood = evidence("stream-flood");
    assert!(flood.starts_with("cut off: ") && flood.contains("streams"), "{flood}");
    // The attack reached the registers: the disks' status is no longer that of a driven device.
    let registers = evidence("registers");
    assert!(registers.contains("writes to registers"), "{registers}");
    assert_eq!(reports.len(), 3, "{reports:#?}");
}
