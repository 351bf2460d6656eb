//! One round-trip property for every message, and none that any bytes make a decoder panic or a stream grow.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails says where")]

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_bytes::{ByteArray, ByteBuf};
use wire::early::{Answer, Birth, Question};
use wire::egress::{BodyLength, EgressAnswer, EgressBody, EgressRequest, LeafAnswer, Scheme};
use wire::frame::{self, FrameError, LARGE, SMALL};
use wire::git::{ObjectId, Push, RefChange, RefName};
use wire::guest::{
    self, ContainerSpec, EgressProxy, FilesDone, FromGuest, GuestLimit, GuestOpens, Protections, ToGuest,
};
use wire::host::{self, DaemonOpens, DoorReport, FileEntry, ModelAnswer};
use wire::process::{Exit, FromProcess, Place, ProcessSpec, ToProcess, TtySize};
use wire::tools::{
    Amount, Content, Contents, Hints, Message, Progress, Prompt, PromptArgument, PromptText, Resource,
    ResourceBody, ResourceTemplate, Role, Tool, ToolFailure, ToolFailureKind, ToolResult, ToolsAnswer,
    ToolsAsk, ToolsReply,
};

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,40}"
}

fn pairs() -> impl Strategy<Value = Vec<(String, String)>> {
    vec((text(), text()), 0..4)
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..200)
}

fn tty() -> impl Strategy<Value = TtySize> {
    any::<(u16, u16)>().prop_map(|(rows, columns)| TtySize { rows, columns })
}

fn process() -> impl Strategy<Value = ProcessSpec> {
    let place = prop_oneof![Just(Place::Container), Just(Place::GuestRoot)];
    (vec(text(), 0..5), pairs(), text(), option::of(tty()), place)
        .prop_map(|(argv, env, cwd, tty, place)| ProcessSpec { argv, env, cwd, tty, place })
}

fn container() -> impl Strategy<Value = ContainerSpec> {
    any::<(u64, u32, u32, u16, u16, Option<(u16, String)>, bool)>().prop_map(
        |(memory, cpu_millis, pids, model_port, tools_port, egress, allow_guest_root)| ContainerSpec {
            memory,
            cpu_millis,
            pids,
            model_port,
            tools_port,
            egress: egress.map(|(port, authority)| EgressProxy { port, authority }),
            allow_guest_root,
        },
    )
}

fn question() -> impl Strategy<Value = Question> {
    let birth = (vec(any::<u8>(), 64), any::<u64>(), any::<[u8; 16]>(), text()).prop_map(
        |(seed, unix_nanos, machine_id, host_name)| {
            let seed: [u8; 64] = seed.try_into().unwrap();
            Question::Birth(Birth {
                seed: ByteArray::new(seed),
                unix_nanos,
                machine_id: ByteArray::new(machine_id),
                host_name,
            })
        },
    );
    prop_oneof![Just(Question::Probe), birth]
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        any::<u32>().prop_map(|version| Answer::Hello { version }),
        (any::<u32>(), text()).prop_map(|(version, boot_id)| Answer::Born { version, boot_id }),
        text().prop_map(|why| Answer::Failed { why }),
    ]
}

fn to_process() -> impl Strategy<Value = ToProcess> {
    prop_oneof![
        bytes().prop_map(ToProcess::Stdin),
        Just(ToProcess::StdinEnd),
        any::<u8>().prop_map(ToProcess::Signal),
        tty().prop_map(ToProcess::Resize),
    ]
}

fn from_process() -> impl Strategy<Value = FromProcess> {
    prop_oneof![
        Just(FromProcess::Started),
        bytes().prop_map(FromProcess::Stdout),
        bytes().prop_map(FromProcess::Stderr),
        any::<u8>().prop_map(|c| FromProcess::Exited(Exit::Code(c))),
        any::<u8>().prop_map(|s| FromProcess::Exited(Exit::Signal(s))),
        text().prop_map(|why| FromProcess::Failed { why }),
    ]
}

fn door_to_guest() -> impl Strategy<Value = guest::DoorOpens> {
    use guest::DoorOpens;
    prop_oneof![
        Just(DoorOpens::Control),
        process().prop_map(DoorOpens::Process),
        text().prop_map(|folder| DoorOpens::PutFiles { folder }),
        text().prop_map(|folder| DoorOpens::GetFiles { folder }),
    ]
}

fn to_guest() -> impl Strategy<Value = ToGuest> {
    prop_oneof![
        container().prop_map(ToGuest::Configure),
        Just(ToGuest::Health),
        any::<u32>().prop_map(|grace_ms| ToGuest::Shutdown { grace_ms }),
    ]
}

fn from_guest() -> impl Strategy<Value = FromGuest> {
    let limit = prop_oneof![Just(GuestLimit::Memory), Just(GuestLimit::Pids), Just(GuestLimit::Disk)];
    prop_oneof![
        pairs().prop_map(|verified| FromGuest::Configured(Protections { verified })),
        text().prop_map(|why| FromGuest::Refused { why }),
        any::<(u32, u64, u64)>().prop_map(|(pids, memory, disk_free)| FromGuest::Health {
            pids,
            memory,
            disk_free
        }),
        limit.prop_map(|limit| FromGuest::LimitHit { limit }),
        Just(FromGuest::Down),
    ]
}

fn files_done() -> impl Strategy<Value = FilesDone> {
    prop_oneof![Just(FilesDone::Ok), text().prop_map(|why| FilesDone::Failed { why })]
}

fn daemon_opens() -> impl Strategy<Value = DaemonOpens> {
    prop_oneof![
        (text(), container())
            .prop_map(|(host_name, container)| DaemonOpens::Control { host_name, container }),
        process().prop_map(DaemonOpens::Process),
        text().prop_map(|folder| DaemonOpens::PutFiles { folder }),
        (text(), any::<u64>(), any::<u32>()).prop_map(|(folder, max_bytes, max_entries)| {
            DaemonOpens::GetFiles { folder, max_bytes, max_entries }
        }),
    ]
}

fn door_report() -> impl Strategy<Value = DoorReport> {
    prop_oneof![
        text().prop_map(|boot_id| DoorReport::Born { boot_id }),
        from_guest().prop_map(DoorReport::Guest),
        text().prop_map(|why| DoorReport::CutOff { why }),
    ]
}

fn file_entry() -> impl Strategy<Value = FileEntry> {
    prop_oneof![
        text().prop_map(|path| FileEntry::Folder { path }),
        (text(), any::<bool>(), any::<u64>()).prop_map(|(path, executable, size)| FileEntry::File {
            path,
            executable,
            size
        }),
        bytes().prop_map(FileEntry::Content),
        (text(), text()).prop_map(|(path, target)| FileEntry::Symlink { path, target }),
        (text(), text()).prop_map(|(path, why)| FileEntry::LeftOut { path, why }),
        Just(FileEntry::End),
        text().prop_map(|why| FileEntry::Failed { why }),
    ]
}

fn model_answer() -> impl Strategy<Value = ModelAnswer> {
    prop_oneof![
        (any::<u16>(), text(), pairs()).prop_map(|(status, content_type, headers)| ModelAnswer::Head {
            status,
            content_type,
            headers
        }),
        bytes().prop_map(ModelAnswer::Body),
        Just(ModelAnswer::End),
    ]
}

fn tools_ask() -> impl Strategy<Value = host::DoorOpens> {
    prop_oneof![
        Just(ToolsAsk::List),
        (text(), text(), any::<bool>()).prop_map(|(tool, arguments, wants_progress)| ToolsAsk::Call {
            tool,
            arguments,
            wants_progress
        }),
        Just(ToolsAsk::ListResources),
        Just(ToolsAsk::ListTemplates),
        text().prop_map(|uri| ToolsAsk::ReadResource { uri }),
        Just(ToolsAsk::ListPrompts),
        (text(), pairs()).prop_map(|(name, arguments)| ToolsAsk::GetPrompt { name, arguments }),
    ]
    .prop_map(host::DoorOpens::Tools)
}

fn maybe() -> impl Strategy<Value = Option<String>> {
    option::of(text())
}

fn amount() -> impl Strategy<Value = Amount> {
    (-1e300..1e300).prop_map(|number| Amount::try_from(number).unwrap())
}

fn resource() -> impl Strategy<Value = Resource> {
    (text(), text(), maybe(), maybe(), maybe(), option::of(any::<u64>())).prop_map(
        |(uri, name, title, description, mime, size)| Resource { uri, name, title, description, mime, size },
    )
}

fn contents() -> impl Strategy<Value = Contents> {
    let body = prop_oneof![text().prop_map(ResourceBody::Text), bytes().prop_map(ResourceBody::Bytes)];
    (text(), maybe(), body).prop_map(|(uri, mime, body)| Contents { uri, mime, body })
}

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        text().prop_map(Content::Text),
        (text(), bytes()).prop_map(|(mime, data)| Content::Image { mime, data }),
        (text(), bytes()).prop_map(|(mime, data)| Content::Audio { mime, data }),
        contents().prop_map(Content::Resource),
        resource().prop_map(Content::Link),
    ]
}

fn tool() -> impl Strategy<Value = Tool> {
    let hint = || option::of(any::<bool>());
    let hints =
        (hint(), hint(), hint(), hint()).prop_map(|(read_only, destructive, idempotent, open_world)| Hints {
            read_only,
            destructive,
            idempotent,
            open_world,
        });
    (text(), maybe(), maybe(), text(), maybe(), hints).prop_map(
        |(name, title, description, input_schema, output_schema, hints)| Tool {
            name,
            title,
            description,
            input_schema,
            output_schema,
            hints,
        },
    )
}

fn prompt() -> impl Strategy<Value = Prompt> {
    let argument = (text(), maybe(), any::<bool>())
        .prop_map(|(name, description, required)| PromptArgument { name, description, required });
    (text(), maybe(), maybe(), vec(argument, 0..3)).prop_map(|(name, title, description, arguments)| Prompt {
        name,
        title,
        description,
        arguments,
    })
}

fn tools_reply() -> impl Strategy<Value = ToolsReply> {
    let result = (vec(content(), 0..4), maybe(), any::<bool>())
        .prop_map(|(content, structured, is_error)| ToolResult { content, structured, is_error });
    let template = (text(), text(), maybe(), maybe(), maybe()).prop_map(
        |(uri_template, name, title, description, mime)| ResourceTemplate {
            uri_template,
            name,
            title,
            description,
            mime,
        },
    );
    let role = prop_oneof![Just(Role::User), Just(Role::Assistant)];
    let message = (role, content()).prop_map(|(role, content)| Message { role, content });
    prop_oneof![
        vec(tool(), 0..3).prop_map(ToolsReply::Tools),
        result.prop_map(ToolsReply::Result),
        vec(resource(), 0..3).prop_map(ToolsReply::Resources),
        vec(template, 0..3).prop_map(ToolsReply::Templates),
        vec(contents(), 0..3).prop_map(ToolsReply::Contents),
        vec(prompt(), 0..3).prop_map(ToolsReply::Prompts),
        (maybe(), vec(message, 0..3))
            .prop_map(|(description, messages)| ToolsReply::Prompt(PromptText { description, messages })),
    ]
}

fn tools_answer() -> impl Strategy<Value = ToolsAnswer> {
    use ToolFailureKind::{Internal, Invalid, NotFound, Refused, TooLarge, Upstream, Waiting};
    let kinds = vec![NotFound, Invalid, Refused, Waiting, Upstream, TooLarge, Internal];
    prop_oneof![
        (amount(), option::of(amount()), maybe())
            .prop_map(|(done, total, message)| ToolsAnswer::Progress(Progress { done, total, message })),
        tools_reply().prop_map(ToolsAnswer::Reply),
        (proptest::sample::select(kinds), text(), maybe())
            .prop_map(|(kind, message, hint)| ToolsAnswer::Failed(ToolFailure { kind, message, hint })),
    ]
}

fn reads_back<T>(message: &T) -> Result<(), TestCaseError>
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let framed = frame::encode(message, SMALL).unwrap();
    prop_assert_eq!(&frame::decode::<T>(&framed[4..]).unwrap(), message);
    let mut longer = framed[4..].to_vec();
    longer.push(0);
    prop_assert!(frame::decode::<T>(&longer).is_err(), "rest bytes are taken");
    Ok(())
}

macro_rules! round_trips {
    ($($name:ident: $strategy:expr => $type:ty;)*) => {
        proptest! {
            $(#[test]
            fn $name(message in $strategy, noise in vec(any::<u8>(), 0..300)) {
                reads_back::<$type>(&message)?;
                // Any bytes decode to a message or to an error.
                if let Ok(found) = frame::decode::<$type>(&noise) {
                    reads_back::<$type>(&found)?;
                }
            })*
        }
    };
}

fn push() -> impl Strategy<Value = Push> {
    let id = || "[0-9a-f]{40}".prop_map(|id| ObjectId::try_from(id).unwrap());
    let name = "refs/heads/[a-z]{1,9}".prop_map(|name| RefName::try_from(name).unwrap());
    let changes = vec((id(), id(), name).prop_map(|(old, new, name)| RefChange { old, new, name }), 0..3);
    (changes, vec(text(), 0..3), vec(id(), 0..2)).prop_map(|(changes, capabilities, shallow)| Push {
        changes,
        capabilities,
        shallow,
    })
}

fn egress() -> impl Strategy<Value = host::DoorOpens> {
    let body = prop_oneof![
        Just(BodyLength::None),
        any::<u64>().prop_map(BodyLength::Known),
        Just(BodyLength::Unknown)
    ];
    let scheme = prop_oneof![Just(Scheme::Http), Just(Scheme::Https)];
    let target = (text(), scheme, text(), any::<u16>(), text(), option::of(text()));
    let request = (target, pairs(), option::of(push()), body).prop_map(
        |((method, scheme, host, port, path, query), headers, push, body)| {
            host::DoorOpens::Egress(EgressRequest {
                method,
                scheme,
                host,
                port,
                path,
                query,
                headers,
                push,
                body,
            })
        },
    );
    prop_oneof![request, text().prop_map(|host| host::DoorOpens::Leaf { host })]
}

fn egress_body() -> impl Strategy<Value = EgressBody> {
    prop_oneof![bytes().prop_map(EgressBody::Bytes), Just(EgressBody::End)]
}

fn egress_answer() -> impl Strategy<Value = EgressAnswer> {
    prop_oneof![
        (any::<u16>(), text(), option::of(text())).prop_map(|(status, why, hint)| EgressAnswer::Refused {
            status,
            why,
            hint
        }),
        (any::<u16>(), pairs()).prop_map(|(status, headers)| EgressAnswer::Head { status, headers }),
        bytes().prop_map(EgressAnswer::Body),
        Just(EgressAnswer::End),
    ]
}

fn leaf() -> impl Strategy<Value = LeafAnswer> {
    let buffer = || bytes().prop_map(ByteBuf::from);
    prop_oneof![
        (vec(buffer(), 0..3), buffer()).prop_map(|(chain, key)| LeafAnswer::Issued { chain, key }),
        text().prop_map(|why| LeafAnswer::Refused { why }),
    ]
}

round_trips! {
    a_question_reads_back: question() => Question;
    an_answer_reads_back: answer() => Answer;
    a_message_to_a_process_reads_back: to_process() => ToProcess;
    a_message_from_a_process_reads_back: from_process() => FromProcess;
    a_stream_to_the_guest_reads_back: door_to_guest() => guest::DoorOpens;
    a_stream_from_the_guest_reads_back: prop_oneof![Just(GuestOpens::Model), Just(GuestOpens::Tools), Just(GuestOpens::Egress)] => GuestOpens;
    a_control_message_reads_back: to_guest() => ToGuest;
    a_guests_report_reads_back: from_guest() => FromGuest;
    the_end_of_a_copy_reads_back: files_done() => FilesDone;
    a_stream_of_the_daemon_reads_back: daemon_opens() => DaemonOpens;
    a_doors_report_reads_back: door_report() => DoorReport;
    a_file_entry_reads_back: file_entry() => FileEntry;
    a_model_answer_reads_back: model_answer() => ModelAnswer;
    a_question_about_tools_reads_back: tools_ask() => host::DoorOpens;
    an_answer_about_tools_reads_back: tools_answer() => ToolsAnswer;
    a_request_that_leaves_reads_back: egress() => host::DoorOpens;
    a_piece_of_a_request_reads_back: egress_body() => EgressBody;
    an_answer_to_a_request_reads_back: egress_answer() => EgressAnswer;
    a_certificate_reads_back: leaf() => LeafAnswer;
}

#[tokio::test]
async fn a_frame_that_lies_about_its_length_is_refused_before_memory_is_taken() {
    let huge = u32::MAX.to_le_bytes();
    let found = frame::read::<FromGuest, _>(&mut &huge[..], SMALL).await;
    assert!(matches!(found, Err(FrameError::Length { max: SMALL, .. })), "{found:?}");

    let empty = 0_u32.to_le_bytes();
    assert!(matches!(
        frame::read::<FromGuest, _>(&mut &empty[..], SMALL).await,
        Err(FrameError::Length { .. })
    ));

    let mut short = 1000_u32.to_le_bytes().to_vec();
    short.push(1);
    assert!(matches!(frame::read::<FromGuest, _>(&mut &short[..], LARGE).await, Err(FrameError::Io(_))));

    assert!(matches!(frame::read::<FromGuest, _>(&mut &short[..2], LARGE).await, Err(FrameError::Io(_))));
    assert!(matches!(frame::read::<FromGuest, _>(&mut &[][..], LARGE).await, Ok(None)));
}

/// A door that was fooled has no room for more than what it asks for may take.
#[tokio::test]
async fn a_doors_stream_begins_no_longer_than_its_kind_may() {
    let request = |length| {
        let target = host::DoorOpens::Egress(EgressRequest {
            method: "A".repeat(length),
            scheme: Scheme::Https,
            host: String::new(),
            port: 1,
            path: String::new(),
            query: None,
            headers: vec![],
            push: None,
            body: BodyLength::None,
        });
        frame::encode(&target, LARGE).unwrap()
    };
    let ask = |length| {
        let ask = ToolsAsk::ReadResource { uri: "a".repeat(length) };
        frame::encode(&host::DoorOpens::Tools(ask), LARGE).unwrap()
    };
    let leaf = |length| {
        let leaf = host::DoorOpens::Leaf { host: "a".repeat(length) };
        frame::encode(&leaf, LARGE).unwrap()
    };
    for fits in [request(120 << 10), ask(1 << 20), leaf(60 << 10)] {
        assert!(host::DoorOpens::read(&mut &fits[..]).await.unwrap().is_some());
    }
    for endless in [request(1 << 20), ask(30 << 20), leaf(1 << 20)] {
        // Nothing of it is waited for but its kind.
        let found = host::DoorOpens::read(&mut &endless[..5]).await;
        assert!(matches!(found, Err(FrameError::Length { .. })), "{found:?}");
    }
}

/// The door knows only these streams: what a door of another version or a fooled one sends is refused.
#[test]
fn unknown_variants_are_refused() {
    assert!(frame::decode::<GuestOpens>(&[3]).is_err());
    assert!(frame::decode::<guest::DoorOpens>(&[9]).is_err());
    assert!(frame::decode::<host::DoorOpens>(&[7]).is_err());
}
