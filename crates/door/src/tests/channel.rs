//! Guests that break the rules of the channel are cut off with a reason; what they should do works.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::frame::CHUNK;
use wire::guest::{FilesDone, GuestLimit, GuestOpens};
use wire::process::{Exit, FromProcess, Place, ProcessSpec, ToProcess};

use super::*;

fn spec() -> ProcessSpec {
    ProcessSpec {
        argv: vec!["true".into()],
        env: Vec::new(),
        cwd: "/".into(),
        tty: None,
        place: Place::Container,
    }
}

/// A process, as the daemon and as the guest hold it.
async fn process(daemon: &Daemon, guest: &mut Guest) -> (Stream, Stream) {
    let near = daemon.open(&DaemonOpens::Process(spec())).await;
    let mut far = guest.incoming.next().await.unwrap();
    let head: DoorOpens = frame::read(&mut far, SMALL).await.unwrap().unwrap();
    assert_eq!(head, DoorOpens::Process(spec()));
    (near, far)
}

#[tokio::test]
async fn a_guest_that_means_well_lives_from_birth_to_shutdown() {
    let (mut daemon, mut guest) = born(DoorLimits::default()).await;
    let (mut near, mut far) = process(&daemon, &mut guest).await;
    frame::write(&mut near, &ToProcess::Stdin(vec![1, 2]), SMALL).await.unwrap();
    let got: ToProcess = frame::read(&mut far, SMALL).await.unwrap().unwrap();
    assert_eq!(got, ToProcess::Stdin(vec![1, 2]));
    for said in
        [FromProcess::Started, FromProcess::Stdout(vec![7; CHUNK]), FromProcess::Exited(Exit::Code(3))]
    {
        frame::write(&mut far, &said, usize::MAX).await.unwrap();
        let got: FromProcess = frame::read(&mut near, usize::MAX).await.unwrap().unwrap();
        assert_eq!(got, said);
    }
    assert!(frame::read::<FromProcess, _>(&mut near, SMALL).await.unwrap().is_none());

    daemon.order(ToGuest::Health).await;
    let asked: ToGuest = frame::read(&mut guest.control, SMALL).await.unwrap().unwrap();
    assert_eq!(asked, ToGuest::Health);
    let health = FromGuest::Health { pids: 1, memory: 2, disk_free: 3 };
    frame::write(&mut guest.control, &health, SMALL).await.unwrap();
    assert_eq!(daemon.report().await, DoorReport::Guest(health));

    daemon.order(ToGuest::Shutdown { grace_ms: 5 }).await;
    let asked: ToGuest = frame::read(&mut guest.control, SMALL).await.unwrap().unwrap();
    assert_eq!(asked, ToGuest::Shutdown { grace_ms: 5 });
    frame::write(&mut guest.control, &FromGuest::Down, SMALL).await.unwrap();
    assert_eq!(daemon.report().await, DoorReport::Guest(FromGuest::Down));
    daemon.door.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_process_that_the_daemon_lets_go_is_let_go_in_the_guest() {
    let (daemon, mut guest) = born(DoorLimits::default()).await;
    let (near, mut far) = process(&daemon, &mut guest).await;
    drop(near);
    assert_eq!(far.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn files_go_in_and_the_guests_answer_comes_back() {
    let (daemon, mut guest) = born(DoorLimits::default()).await;
    let mut near = daemon.open(&DaemonOpens::PutFiles { folder: "/workspace".into() }).await;
    near.write_all(b"an archive").await.unwrap();
    near.shutdown().await.unwrap();
    let mut far = guest.incoming.next().await.unwrap();
    let head: DoorOpens = frame::read(&mut far, SMALL).await.unwrap().unwrap();
    assert_eq!(head, DoorOpens::PutFiles { folder: "/workspace".into() });
    let mut archive = Vec::new();
    far.read_to_end(&mut archive).await.unwrap();
    assert_eq!(archive, b"an archive");
    let full = FilesDone::Failed { why: "the disk is full".into() };
    frame::write(&mut far, &full, SMALL).await.unwrap();
    let done: FilesDone = frame::read(&mut near, SMALL).await.unwrap().unwrap();
    assert_eq!(done, full);
}

#[tokio::test]
async fn a_guest_that_does_not_take_files_is_cut_off() {
    let (daemon, mut guest) = born(DoorLimits { stall: SHORT, ..DoorLimits::default() }).await;
    let mut near = daemon.open(&DaemonOpens::PutFiles { folder: "/workspace".into() }).await;
    let _untaken = guest.incoming.next().await.unwrap();
    let flood = tokio::spawn(async move { while near.write_all(&[0; 65_536]).await.is_ok() {} });
    assert_eq!(daemon.cut_off().await, CutOff::Stalled(SHORT));
    flood.await.unwrap();
}

#[tokio::test]
async fn a_guest_that_is_not_born_in_time_is_cut_off() {
    let (daemon, _silent) = door(DoorLimits { birth: SHORT, ..DoorLimits::default() }).await;
    assert!(matches!(daemon.cut_off().await, CutOff::Unborn(why) if why.contains("within")));
}

#[tokio::test]
async fn a_birth_that_is_answered_wrongly_is_none() {
    for (answer, why) in [
        (Answer::Born { version: VERSION + 1, boot_id: "0".into() }, "version"),
        (Answer::Born { version: VERSION, boot_id: "\u{1b}[2J".into() }, "boot id"),
        (Answer::Born { version: VERSION, boot_id: "0".repeat(65) }, "boot id"),
        (Answer::Failed { why: "no disk".into() }, "no disk"),
        (Answer::Hello { version: VERSION }, "another question"),
    ] {
        let (daemon, mut channel) = door(DoorLimits::default()).await;
        frame::write(&mut channel, &answer, SMALL).await.unwrap();
        assert!(matches!(daemon.cut_off().await, CutOff::Unborn(told) if told.contains(why)));
    }
    for bytes in [&[0, 0, 0, 0][..], &[255; 64], &[3, 0, 0, 0, 9, 9, 9], b""] {
        let (daemon, mut channel) = door(DoorLimits::default()).await;
        channel.write_all(bytes).await.unwrap();
        channel.shutdown().await.unwrap();
        assert!(matches!(daemon.cut_off().await, CutOff::Unborn(_)));
    }
}

#[tokio::test]
async fn a_guest_that_does_not_configure_in_time_is_cut_off() {
    let (daemon, mut channel) = door(DoorLimits { configure: SHORT, ..DoorLimits::default() }).await;
    let _birth: Question = frame::read(&mut channel, SMALL).await.unwrap().unwrap();
    frame::write(&mut channel, &Answer::Born { version: VERSION, boot_id: "0".into() }, SMALL).await.unwrap();
    let (_opener, _incoming, driver) = mux(channel, Side::Guest, MuxLimits::default());
    tokio::spawn(driver.run());
    assert_eq!(daemon.cut_off().await, CutOff::Unconfigured(SHORT));
}

#[tokio::test]
async fn a_guest_that_speaks_no_mux_is_cut_off() {
    let (daemon, mut channel) = door(DoorLimits::default()).await;
    let _birth: Question = frame::read(&mut channel, SMALL).await.unwrap().unwrap();
    frame::write(&mut channel, &Answer::Born { version: VERSION, boot_id: "0".into() }, SMALL).await.unwrap();
    channel.write_all(&[0xff; 4096]).await.unwrap();
    let cut = daemon.cut_off().await;
    assert!(matches!(cut, CutOff::Channel(_)), "{cut}");
}

#[tokio::test]
async fn a_guest_that_opens_ten_thousand_streams_is_cut_off() {
    let (daemon, guest) = born(DoorLimits::default()).await;
    let flood = tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok(mut stream) = guest.opener.open().await {
            // Streams that the door closes at once are opened again and again.
            drop(frame::write(&mut stream, &GuestOpens::Model, SMALL).await);
            open.push(stream);
        }
        open.len()
    });
    assert!(matches!(daemon.cut_off().await, CutOff::Channel(_) | CutOff::Flood(_)));
    assert!(flood.await.unwrap() < 10_000);
}

#[tokio::test]
async fn streams_that_nobody_names_are_counted_too() {
    let (daemon, guest) = born(DoorLimits::default()).await;
    let mut open = Vec::new();
    while let Ok(mut stream) = guest.opener.open().await {
        // Half a head: the stream is taken, and waits.
        drop(stream.write_all(&[1]).await);
        drop(stream.flush().await);
        open.push(stream);
        assert!(open.len() < 10_000);
    }
    assert!(matches!(daemon.cut_off().await, CutOff::Channel(_) | CutOff::Flood(_)));
}

#[tokio::test]
async fn a_length_that_is_a_lie_cuts_the_guest_off() {
    for length in [0_u32, 40_000, u32::MAX] {
        let (daemon, mut guest) = born(DoorLimits::default()).await;
        let (_near, mut far) = process(&daemon, &mut guest).await;
        far.write_all(&length.to_le_bytes()).await.unwrap();
        far.flush().await.unwrap();
        assert!(matches!(daemon.cut_off().await, CutOff::Frame(_)), "{length}");
    }
}

#[tokio::test]
async fn a_chunk_that_is_too_long_cuts_the_guest_off() {
    let (daemon, mut guest) = born(DoorLimits::default()).await;
    let (_near, mut far) = process(&daemon, &mut guest).await;
    frame::write(&mut far, &FromProcess::Stdout(vec![0; CHUNK + 1]), usize::MAX).await.unwrap();
    assert!(matches!(daemon.cut_off().await, CutOff::Frame(why) if why.contains("chunk")));
}

#[tokio::test]
async fn bytes_that_are_no_message_cut_the_guest_off() {
    let (daemon, mut guest) = born(DoorLimits::default()).await;
    let (_near, mut far) = process(&daemon, &mut guest).await;
    far.write_all(&[2, 0, 0, 0, 99, 99]).await.unwrap();
    far.flush().await.unwrap();
    assert!(matches!(daemon.cut_off().await, CutOff::Frame(_)));
}

#[tokio::test]
async fn a_guest_that_stops_in_the_middle_of_a_frame_is_cut_off() {
    let (daemon, mut guest) = born(DoorLimits::default()).await;
    let (_near, mut far) = process(&daemon, &mut guest).await;
    far.write_all(&[200, 0, 0, 0, 1]).await.unwrap();
    far.shutdown().await.unwrap();
    assert_eq!(daemon.cut_off().await, CutOff::MidFrame);

    let (daemon, mut guest) = born(DoorLimits { frame: SHORT, ..DoorLimits::default() }).await;
    let (_near, mut far) = process(&daemon, &mut guest).await;
    far.write_all(&[200, 0, 0, 0, 1]).await.unwrap();
    far.flush().await.unwrap();
    assert_eq!(daemon.cut_off().await, CutOff::SlowFrame(SHORT));
}

#[tokio::test]
async fn a_stream_for_nothing_in_particular_cuts_the_guest_off() {
    let (daemon, guest) = born(DoorLimits { frame: SHORT, ..DoorLimits::default() }).await;
    let mut stream = guest.opener.open().await.unwrap();
    stream.write_all(&[1]).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(daemon.cut_off().await, CutOff::Nameless(SHORT));

    let (daemon, guest) = born(DoorLimits::default()).await;
    let mut stream = guest.opener.open().await.unwrap();
    stream.write_all(&[1, 0, 0, 0, 77]).await.unwrap();
    stream.flush().await.unwrap();
    assert!(matches!(daemon.cut_off().await, CutOff::Frame(_)));
}

#[tokio::test]
async fn answers_that_nobody_asked_for_cut_the_guest_off() {
    for said in [
        FromGuest::Health { pids: 0, memory: 0, disk_free: 0 },
        FromGuest::Configured(Protections::default()),
    ] {
        let (daemon, mut guest) = born(DoorLimits::default()).await;
        frame::write(&mut guest.control, &said, SMALL).await.unwrap();
        assert!(matches!(daemon.cut_off().await, CutOff::Unasked(_)));
    }
}

#[tokio::test]
async fn a_flood_of_control_frames_cuts_the_guest_off() {
    let (daemon, mut guest) = born(DoorLimits::default()).await;
    let flood = tokio::spawn(async move {
        let said = FromGuest::LimitHit { limit: GuestLimit::Pids };
        while frame::write(&mut guest.control, &said, SMALL).await.is_ok() {}
    });
    assert_eq!(daemon.cut_off().await, CutOff::Chatter(256));
    flood.await.unwrap();
}

#[tokio::test]
async fn a_guest_that_says_nothing_any_more_is_cut_off() {
    let (daemon, guest) = born(DoorLimits { silence: SHORT, ..DoorLimits::default() }).await;
    // Its machine stands still, with the channel open.
    guest.driver.abort();
    assert_eq!(daemon.cut_off().await, CutOff::Silent(SHORT));
}

#[tokio::test]
async fn a_machine_that_ends_without_a_word_is_told() {
    let (daemon, guest) = born(DoorLimits::default()).await;
    let Guest { driver, still_open, .. } = guest;
    driver.abort();
    drop(still_open);
    assert_eq!(daemon.cut_off().await, CutOff::Hung);
}

#[tokio::test]
async fn a_flood_of_output_waits_in_the_guest_while_the_rest_goes_on() {
    let (mut daemon, mut guest) = born(DoorLimits::default()).await;
    let (_unread, mut far) = process(&daemon, &mut guest).await;
    let flood = tokio::spawn(async move {
        let mut sent = 0_usize;
        let chunk = FromProcess::Stdout(vec![b'x'; CHUNK]);
        while sent < (64 << 20) {
            let write = frame::write(&mut far, &chunk, usize::MAX);
            if tokio::time::timeout(std::time::Duration::from_secs(2), write).await.is_err() {
                break;
            }
            sent += CHUNK;
        }
        sent
    });
    let sent = flood.await.unwrap();
    assert!(sent < (8 << 20), "{sent} bytes were taken though nobody reads them");
    daemon.order(ToGuest::Health).await;
    let asked: ToGuest = frame::read(&mut guest.control, SMALL).await.unwrap().unwrap();
    assert_eq!(asked, ToGuest::Health);
}

#[tokio::test]
async fn a_door_that_is_killed_costs_one_session() {
    let (daemon, _guest) = born(DoorLimits::default()).await;
    let (other_daemon, mut other_guest) = born(DoorLimits::default()).await;
    daemon.door.abort();
    let mut control = daemon.control;
    assert!(!matches!(frame::read::<DoorReport, _>(&mut control, SMALL).await, Ok(Some(_))));
    let (mut near, mut far) = process(&other_daemon, &mut other_guest).await;
    frame::write(&mut far, &FromProcess::Started, SMALL).await.unwrap();
    let got: FromProcess = frame::read(&mut near, SMALL).await.unwrap().unwrap();
    assert_eq!(got, FromProcess::Started);
}

#[tokio::test]
async fn a_door_whose_daemon_goes_ends() {
    let (daemon, _guest) = born(DoorLimits::default()).await;
    let Daemon { door, opener, incoming, control } = daemon;
    drop((opener, incoming, control));
    door.await.unwrap().unwrap();
}
