//! A `Question` that is altered after it was asked.

use policy::{Question, ToolCall};

fn forge(mut asked: Question<ToolCall>, other: ToolCall) {
    asked.action = other;
}

fn main() {}
