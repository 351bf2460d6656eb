//! The tools as models and people see them. A change of one is a change of its pin: people approve it anew.

use serde_json::{Value, json};

/// A tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Its name.
    pub name: &'static str,
    /// What the model is told about it.
    pub says: &'static str,
    /// The JSON Schema of its arguments.
    pub schema: Value,
}

/// All of them.
#[must_use]
pub fn descriptions() -> Vec<Description> {
    let id =
        json!({"type": "string", "description": "a mail's id, as search, read or a draft's tool gave it"});
    let text = json!({"type": "string"});
    let day = json!({"type": "string", "description": "a day, 2026-11-28"});
    let mail = mail_fields();
    let updated = with(&mail, "id", &id);
    let answered = with(
        &mail,
        "in_reply_to",
        &json!({"type": "string", "description": "the id of the mail that this answers"}),
    );
    let sought = json!({
        "folder": {"type": "string", "description": "INBOX where it is left out"},
        "from": text, "to": text, "subject": text,
        "text": {"type": "string", "description": "anywhere in the mail"},
        "since": day, "before": day, "unread": {"type": "boolean"},
        "limit": {"type": "integer", "minimum": 1, "maximum": 50},
    });
    vec![
        tool("list_folders", "Lists the mailbox's folders.", &json!({}), &[]),
        tool("search", "Finds mails, newest first; all that is given must be met.", &sought, &[]),
        tool(
            "read",
            "Reads a mail: who, subject, plain text, names of attachments.",
            &json!({"id": id}),
            &["id"],
        ),
        tool(
            "draft_create",
            "Writes a draft, a plain text. It stays in the mailbox.",
            &answered,
            &["subject", "body"],
        ),
        tool(
            "draft_update",
            "Writes a draft anew; it gets a new id.",
            &updated,
            &["id", "to", "subject", "body"],
        ),
        tool("send_draft", "Sends a draft.", &json!({"id": id}), &["id"]),
        tool("send", "Sends a mail, a plain text.", &answered, &["to", "subject", "body"]),
        tool(
            "move",
            "Moves a mail to another folder; it gets a new id.",
            &json!({"id": id, "folder": text}),
            &["id", "folder"],
        ),
        tool(
            "delete",
            "Deletes a mail: into the trash, or from there for good.",
            &json!({"id": id}),
            &["id"],
        ),
    ]
}

fn mail_fields() -> Value {
    let addresses = json!({
        "type": "array", "maxItems": 50,
        "items": {"type": "string", "description": "name@host alone, without a name before it"},
    });
    json!({
        "to": addresses, "cc": addresses, "bcc": addresses,
        "subject": {"type": "string"}, "body": {"type": "string", "description": "plain text"},
    })
}

fn with(fields: &Value, name: &str, field: &Value) -> Value {
    let mut fields = fields.clone();
    if let Some(fields) = fields.as_object_mut() {
        fields.insert(name.to_owned(), field.clone());
    }
    fields
}

fn tool(name: &'static str, says: &'static str, properties: &Value, required: &[&str]) -> Description {
    let schema = json!({
        "type": "object", "properties": properties, "required": required, "additionalProperties": false
    });
    Description { name, says, schema }
}
