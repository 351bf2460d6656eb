//! Every limit refuses what is one too large, and takes what just fits.

use super::*;
use crate::frame;

fn call(arguments: &str) -> ToolsAsk {
    ToolsAsk::Call { tool: "mail__read".into(), arguments: arguments.into(), wants_progress: true }
}

fn tool(input_schema: String) -> Tool {
    Tool {
        name: "t".into(),
        title: None,
        description: None,
        input_schema,
        output_schema: None,
        hints: Hints::default(),
    }
}

fn text(bytes: usize) -> ToolResult {
    ToolResult { content: vec![Content::Text("x".repeat(bytes))], structured: None, is_error: false }
}

fn result(result: ToolResult) -> ToolsAnswer {
    ToolsAnswer::Reply(ToolsReply::Result(result))
}

#[test]
fn arguments_are_one_strict_object() {
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(48), "]".repeat(48));
    assert_eq!(call("{\"a\":[1,{\"b\":null}]}").check(), Ok(()));
    for bad in ["", "[]", "1", "{\"a\":1,\"a\":2}", "{\"a\":9007199254740993}", "{} {}", deep.as_str()] {
        assert!(matches!(call(bad).check(), Err(TooLarge::Json { what: "arguments", .. })), "{bad}");
    }
}

#[test]
fn questions_past_a_limit_are_refused() {
    let long = |n: usize| "x".repeat(n + 1);
    for bad in [
        ToolsAsk::Call { tool: long(MAX_NAME), arguments: "{}".into(), wants_progress: false },
        call(&format!("{{\"a\":\"{}\"}}", long(ARGUMENTS.bytes))),
        ToolsAsk::ReadResource { uri: long(MAX_URI) },
        ToolsAsk::GetPrompt { name: long(MAX_NAME), arguments: vec![] },
        ToolsAsk::GetPrompt { name: "p".into(), arguments: vec![(long(MAX_NAME), String::new())] },
        ToolsAsk::GetPrompt { name: "p".into(), arguments: vec![("a".into(), long(BODY.bytes))] },
        ToolsAsk::GetPrompt { name: "p".into(), arguments: vec![Default::default(); MAX_PARTS + 1] },
    ] {
        assert!(bad.check().is_err());
    }
}

#[test]
fn the_largest_question_and_the_largest_answer_fit_their_frames() {
    let most = call(&format!("{{\"a\":\"{}\"}}", "x".repeat(ARGUMENTS.bytes - 8)));
    assert_eq!(most.check(), Ok(()));
    assert!(frame::encode(&crate::host::DoorOpens::Tools(most), MAX_ASK).is_ok());
    let parts = vec![Content::Text("x".repeat(MAX_CONTENT / MAX_PARTS)); MAX_PARTS];
    let most = result(ToolResult { content: parts, structured: None, is_error: false });
    assert_eq!(most.check(), Ok(()));
    assert!(frame::encode(&most, MAX_REPLY).is_ok());
}

#[test]
fn answers_past_a_limit_are_refused() {
    assert_eq!(result(text(MAX_CONTENT)).check(), Ok(()));
    assert_eq!(result(text(MAX_CONTENT + 1)).check(), Err(TooLarge::Content));
    let parts = ToolResult { content: vec![Content::Text(String::new()); MAX_PARTS + 1], ..text(0) };
    assert!(matches!(result(parts).check(), Err(TooLarge::Count { what: "parts", .. })));
    let twice = ToolResult { structured: Some("{\"a\":1,\"a\":1}".into()), ..text(0) };
    assert!(matches!(result(twice).check(), Err(TooLarge::Json { .. })));
    let data = Content::Image { mime: "image/png".into(), data: vec![0; MAX_CONTENT] };
    assert_eq!(result(ToolResult { content: vec![data], ..text(0) }).check(), Err(TooLarge::Content));

    let tools = |tools| ToolsReply::Tools(tools).check();
    assert_eq!(tools(vec![tool("{\"type\":\"object\"}".into())]), Ok(()));
    assert!(matches!(tools(vec![tool("true".into())]), Err(TooLarge::Json { .. })));
    let schema = format!("{{\"description\":\"{}\"}}", "x".repeat(SCHEMA.bytes));
    assert!(matches!(tools(vec![tool(schema)]), Err(TooLarge::Json { .. })));
    assert!(matches!(tools(vec![tool("{}".into()); MAX_ITEMS + 1]), Err(TooLarge::Count { .. })));
    let described = Tool { description: Some("x".repeat(MAX_LONG)), ..tool("{}".into()) };
    assert_eq!(tools(vec![described; 600]), Err(TooLarge::Content), "all of them together");
}

#[test]
fn failures_are_cut_to_a_length_that_passes() {
    let failure = ToolFailure::new(ToolFailureKind::Refused, "ü".repeat(MAX_LONG)).hint("h".repeat(MAX_LONG));
    assert!(ToolsAnswer::Failed(failure.clone()).check().is_err());
    let failure = failure.bounded();
    assert!(failure.message.ends_with("[…]"));
    assert_eq!(ToolsAnswer::Failed(failure).check(), Ok(()));
    assert_eq!(shortened("short".into(), 5), "short");
}

#[test]
fn an_amount_is_finite() {
    assert!(Amount::try_from(0.5).is_ok());
    let infinite = frame::encode(&f64::INFINITY, 16).unwrap();
    assert!(frame::decode::<Amount>(&infinite[4..]).is_err());
}
