//! Conversations of a ChatGPT export: `conversations.json`, an array of trees.
//!
//! Each conversation has `title`, `create_time`, `update_time` (seconds since 1970), `current_node` and
//! `mapping`: from an id to a node with `parent`, `children` and `message`, which is null at the root.
//! Messages of tools and of the system, and those without text, are left out; what stands under them stands
//! under the message above.

use std::collections::{HashMap, HashSet};

use engine::Clock;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::record::{ConversationRecord, MessageRecord};
use super::title;

/// One conversation, or `None` where it has no messages that could be read.
pub(super) fn conversation(value: &Value) -> Option<ConversationRecord> {
    let mapping = value.get("mapping")?.as_object()?;
    let name = ["conversation_id", "id"].iter().find_map(|key| value.get(key)?.as_str());
    let created = time(value.get("create_time")).unwrap_or(Timestamp::UNIX_EPOCH);
    let key = |node: &str| id(&format!("{}/{node}", name.unwrap_or_default()), node);
    let current = ancestors(mapping, value.get("current_node").and_then(Value::as_str));
    let mut messages: Vec<MessageRecord> = Vec::new();
    // Each with the kept message above it; the last one first, so that children come in their order.
    let mut waiting: Vec<(&str, Option<Uuid>)> =
        roots(mapping).into_iter().rev().map(|root| (root, None)).collect();
    let by_parent = children_by_parent(mapping);
    let mut seen = HashSet::new();
    while let Some((name, above)) = waiting.pop() {
        let Some(node) = mapping.get(name).filter(|_| seen.insert(name)) else { continue };
        let mut below = above;
        if let Some((role, text)) = node.get("message").and_then(said) {
            let id = key(name);
            messages.push(MessageRecord {
                parent: above,
                chosen: current.contains(name),
                ..message(id, role, text, node.get("message"), created)
            });
            below = Some(id);
        }
        let children = node.get("children").and_then(Value::as_array).into_iter().flatten();
        let mut children: Vec<&str> = children.filter_map(Value::as_str).collect();
        // Not every export names each child at its parent.
        children.extend(by_parent.get(name).into_iter().flatten());
        waiting.extend(children.into_iter().rev().map(|child| (child, below)));
    }
    let first = messages.iter().find(|message| message.role == "user").or(messages.first())?;
    let given = title::of_user(value.get("title").and_then(Value::as_str).unwrap_or_default());
    let title = if given.is_empty() { title::of_message(&first.text) } else { given };
    let updated = time(value.get("update_time")).unwrap_or(created);
    Some(ConversationRecord {
        id: match name {
            Some(name) => id(name, name),
            None => id(&format!("conversation/{}", first.id), ""),
        },
        title,
        title_origin: "import".into(),
        pinned: false,
        created,
        updated,
        system_prompt: None,
        model: None,
        draft: String::new(),
        clock: Clock::now(),
        messages,
        resets: Vec::new(),
    })
}

/// A message that was said at `created` where the export does not tell when.
fn message(
    id: Uuid,
    role: &str,
    text: String,
    exported: Option<&Value>,
    created: Timestamp,
) -> MessageRecord {
    MessageRecord {
        id,
        parent: None,
        chosen: false,
        role: role.into(),
        text,
        thinking: String::new(),
        status: "complete".into(),
        finish: None,
        failure: None,
        tokens: Vec::new(),
        model: (role == "assistant").then(|| model(exported)),
        settings: None,
        seed: None,
        usage: None,
        memory_begins: None,
        run: None,
        created: exported.and_then(|message| time(message.get("create_time"))).unwrap_or(created),
        ended: None,
        pinned: false,
    }
}

type Mapping = serde_json::Map<String, Value>;

/// Nodes under none that is there.
fn roots(mapping: &Mapping) -> Vec<&str> {
    let has_parent = |node: &Value| {
        node.get("parent").and_then(Value::as_str).is_some_and(|parent| mapping.contains_key(parent))
    };
    mapping.iter().filter(|(_, node)| !has_parent(node)).map(|(name, _)| name.as_str()).collect()
}

/// Nodes by the one that they name as their parent.
fn children_by_parent(mapping: &Mapping) -> HashMap<&str, Vec<&str>> {
    let mut children: HashMap<&str, Vec<&str>> = HashMap::new();
    for (name, node) in mapping {
        if let Some(parent) = node.get("parent").and_then(Value::as_str) {
            children.entry(parent).or_default().push(name);
        }
    }
    children
}

fn ancestors<'m>(mapping: &'m Mapping, from: Option<&'m str>) -> HashSet<&'m str> {
    let mut above = HashSet::new();
    let mut next = from;
    while let Some(name) = next.filter(|name| above.insert(*name)) {
        next = mapping.get(name).and_then(|node| node.get("parent")).and_then(Value::as_str);
    }
    above
}

/// Who says what, where it is a message that people saw.
fn said(message: &Value) -> Option<(&'static str, String)> {
    let role = match message.get("author")?.get("role")?.as_str()? {
        "user" => "user",
        "assistant" => "assistant",
        _ => return None,
    };
    let content = message.get("content")?;
    let kind = content.get("content_type").and_then(Value::as_str).unwrap_or("text");
    let text = match kind {
        "text" | "multimodal_text" => {
            let parts = content.get("parts").and_then(Value::as_array)?.iter();
            let parts: Vec<&str> =
                parts.filter_map(|part| part.as_str().or_else(|| part.get("text")?.as_str())).collect();
            parts.join("\n\n")
        }
        "code" => {
            // What is addressed to a tool was never shown.
            if message.get("recipient").and_then(Value::as_str).is_some_and(|to| to != "all") {
                return None;
            }
            let code = content.get("text").and_then(Value::as_str)?;
            format!("```\n{code}\n```")
        }
        _ => return None,
    };
    (!text.trim().is_empty()).then_some((role, text))
}

fn model(message: Option<&Value>) -> String {
    let slug = message.and_then(|message| message.get("metadata")?.get("model_slug")?.as_str());
    slug.unwrap_or("ChatGPT").to_owned()
}

fn time(seconds: Option<&Value>) -> Option<Timestamp> {
    let seconds = seconds?.as_f64()?;
    Timestamp::from_microsecond((seconds * 1e6) as i64).ok()
}

/// The id of a thing that has its own in the export: the same each time, so that what was imported already is
/// known again.
fn id(context: &str, name: &str) -> Uuid {
    name.parse().unwrap_or_else(|_| Uuid::new_v5(&Uuid::NAMESPACE_OID, context.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_keeps_its_branches_and_leaves_tools_out() {
        let node = |parent: Value, children: Value, role: &str, text: &str| {
            serde_json::json!({"parent": parent, "children": children, "message": {
                "author": {"role": role}, "create_time": 1_700_000_000.5,
                "content": {"content_type": "text", "parts": [text]}}})
        };
        let value = serde_json::json!({
            "title": "A talk", "create_time": 1_700_000_000, "update_time": 1_700_000_100,
            "conversation_id": "6b1f0ff0-0000-4000-8000-000000000001", "current_node": "c",
            "mapping": {
                "root": {"parent": null, "children": ["s"], "message": null},
                "s": node("root".into(), serde_json::json!(["a"]), "system", ""),
                "a": node("s".into(), serde_json::json!(["t", "b"]), "user", "Question"),
                "t": node("a".into(), serde_json::json!(["c"]), "tool", "result"),
                "b": node("a".into(), serde_json::json!([]), "assistant", "First"),
                "c": node("t".into(), serde_json::json!([]), "assistant", "Second"),
            }
        });
        let record = conversation(&value).expect("it can be read");
        let told: Vec<(&str, bool, bool)> = record
            .messages
            .iter()
            .map(|message| (message.text.as_str(), message.parent.is_some(), message.chosen))
            .collect();
        assert_eq!(told, [("Question", false, true), ("Second", true, true), ("First", true, false)]);
        assert_eq!(record.messages[0].created.as_microsecond(), 1_700_000_000_500_000);
        let again = conversation(&value).expect("it can be read again");
        // The clock is the time of the import.
        let again = ConversationRecord { clock: record.clock.clone(), ..again };
        assert_eq!(again, record, "the ids are the same each time");
    }
}
