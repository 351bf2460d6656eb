//! Servers that do as they should, over both transports.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::tools::{Amount, Content, ResourceBody, ToolFailureKind};

use super::everything::Everything;
use super::*;
use crate::Credential;
use crate::tools::upstream::Acted;

/// The same server over HTTP and over a byte stream.
async fn both(server: &Everything) -> [(&'static str, Upstream); 2] {
    let limits = UpstreamLimits::default();
    let http =
        Upstream::over_http(&crate::tests::dialer(), &server.over_http().await, Credential::None, limits)
            .await
            .unwrap();
    let stream = Upstream::over_stream(server.over_stream(), limits).await.unwrap();
    [("http", http), ("stream", stream)]
}

#[tokio::test]
async fn good_tools_are_listed_and_the_others_withheld_with_a_reason() {
    for (how, upstream) in both(&Everything::default()).await {
        let list = upstream.list().await.unwrap();
        let names: Vec<_> = list.tools.iter().map(|tool| tool.name.as_str()).collect();
        assert_eq!(names, ["echo", "picture", "numbers", "count", "slow", "fails"], "{how}");
        assert!(list.tools[0].input_schema.contains("\"required\":[\"text\"]"));
        assert_eq!(list.tools[0].description.as_deref(), Some("does echo"));
        for (name, why) in
            [("twice", "several"), ("\\u{435}cho", "can't be in"), ("deep", "deeper"), ("wide", "bytes")]
        {
            let withheld = list.withheld.iter().find(|withheld| withheld.name == name);
            assert!(
                withheld.is_some_and(|withheld| withheld.why.contains(why)),
                "{name}: {:?}",
                list.withheld
            );
        }
    }
}

#[tokio::test]
async fn every_kind_of_result_comes_through() {
    for (how, upstream) in both(&Everything::default()).await {
        let echo = call(&upstream, "echo", r#"{"text":"ü","n":10.5}"#).await.unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(text(&echo)).unwrap()["n"], 10.5, "{how}");

        let picture = call(&upstream, "picture", "{}").await.unwrap();
        assert!(
            matches!(&picture.content[0], Content::Image { mime, data } if mime == "image/png" && data.starts_with(b"\x89PNG"))
        );
        assert!(
            matches!(&picture.content[1], Content::Resource(contents) if contents.body == ResourceBody::Bytes(vec![0, 1, 2]))
        );
        assert!(matches!(&picture.content[2], Content::Link(link) if link.uri == "file:///y"));

        let numbers = call(&upstream, "numbers", "{}").await.unwrap();
        assert_eq!(numbers.structured.as_deref(), Some(r#"{"numbers":[1,2.5]}"#));

        let fails = call(&upstream, "fails", "{}").await.unwrap();
        assert!(fails.is_error && text(&fails) == "it is broken");

        let nothing = call(&upstream, "no-such-tool", "{}").await.unwrap_err();
        assert_eq!((nothing.acted, nothing.failure.kind), (Acted::Failed, ToolFailureKind::Invalid));
        let wrong = call(&upstream, "echo", "[]").await.unwrap_err();
        assert_eq!((wrong.acted, wrong.failure.kind), (Acted::No, ToolFailureKind::Invalid));
    }
}

#[tokio::test]
async fn progress_is_passed_on_to_whoever_asked() {
    for (how, upstream) in both(&Everything::default()).await {
        let (sink, mut progress) = ProgressSink::channel();
        let tool = "count".parse().unwrap();
        let result = upstream.call(&tool, "{}", sink, &CancellationToken::new()).await.unwrap();
        assert_eq!(text(&result), "counted");
        let mut told = Vec::new();
        while let Ok(step) = progress.try_recv() {
            told.push(step);
        }
        let last = told.last().unwrap_or_else(|| panic!("{how}: no progress"));
        assert_eq!(last.total, Some(Amount::try_from(3.0).unwrap()));
        assert!(last.message.as_deref().is_some_and(|message| message.starts_with("step ")));
    }
}

#[tokio::test]
async fn a_cancelled_call_is_cancelled_at_the_server() {
    let server = Everything::default();
    for (how, upstream) in both(&server).await {
        let cancel = CancellationToken::new();
        let tool = "slow".parse().unwrap();
        let call = upstream.call(&tool, "{}", ProgressSink::NONE, &cancel);
        let stop = async {
            server.begun.notified().await;
            cancel.cancel();
        };
        let (failed, ()) = tokio::join!(call, stop);
        assert_eq!(failed.unwrap_err().acted, Acted::Unknown, "{how}");
        server.cancelled.notified().await;
        // The connection is as good as before.
        assert!(call_again(&upstream).await, "{how}");
    }
}

async fn call_again(upstream: &Upstream) -> bool {
    call(upstream, "echo", r#"{"text":"again"}"#).await.is_ok()
}

#[tokio::test]
async fn resources_and_prompts_are_read() {
    for (how, upstream) in both(&Everything::default()).await {
        assert_eq!(upstream.resources().await.unwrap()[0].uri, "file:///x", "{how}");
        assert!(upstream.templates().await.unwrap().is_empty());
        let contents = upstream.read("file:///x", &CancellationToken::new()).await.unwrap();
        assert_eq!(contents[0].body, ResourceBody::Text("in x".into()));
        assert!(upstream.read("file:///z", &CancellationToken::new()).await.is_err());
        assert_eq!(upstream.prompts().await.unwrap()[0].name, "greet");
        let prompt = upstream
            .prompt("greet", vec![("name".into(), "Ada".into())], &CancellationToken::new())
            .await
            .unwrap();
        assert!(matches!(&prompt.messages[0].content, Content::Text(text) if text.contains("Ada")));
        upstream.close().await;
    }
}

#[tokio::test]
async fn what_a_stream_carries_is_one_message_a_line() {
    let server = Everything::default();
    let (near, mut far) = tokio::io::duplex(1 << 20);
    let mut behind = server.over_stream();
    // A greeting of the program before its first message does no harm.
    tokio::spawn(async move {
        far.write_all(b"Starting...\n\n").await.unwrap();
        drop(tokio::io::copy_bidirectional(&mut far, &mut behind).await);
        drop(far.read(&mut [0]).await);
    });
    let upstream = Upstream::over_stream(near, UpstreamLimits::default()).await.unwrap();
    assert!(call_again(&upstream).await);
}
