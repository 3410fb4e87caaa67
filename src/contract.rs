//! The machine-readable contract: JSON Schemas of jobs and events, and an AsyncAPI document that contains them.
//!
//! The documents in `docs/contract` are generated from the types. This module is compiled only for the tests, and one
//! of them checks that the documents are up to date.

use std::path::PathBuf;
use std::{env, fs};

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use crate::adapters::amqp::topology::Names;
use crate::config::Settings;
use crate::domain::event::SPEC_VERSION;
use crate::domain::job::JobMessage;
use crate::domain::{Event, EventType, Field, KycEvent, KycType, Lane, RawUser, RawValue, Timestamp, validate};

impl JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time"})
    }
}

/// The schema of what the program reads.
fn read<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().for_deserialize().into_generator().into_root_schema_for::<T>().into()
}

/// The schema of what the program writes.
fn written<T: JsonSchema>() -> Value {
    let mut schema = SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>().into();
    without_null(&mut schema);
    schema
}

/// Removes null from the types of optional members: an event leaves an absent member out.
fn without_null(schema: &mut Value) {
    let required = schema["required"].clone();
    for (name, property) in schema["properties"].as_object_mut().into_iter().flatten() {
        let is_required = required.as_array().is_some_and(|names| names.iter().any(|required| required == name));
        if is_required {
            continue;
        }
        if let Some(types) = property["type"].as_array() {
            property["type"] = types.iter().find(|kind| *kind != "null").cloned().unwrap_or_default();
        }
        let non_null = property["anyOf"].as_array().and_then(|kinds| kinds.iter().find(|kind| kind["type"] != "null"));
        if let Some(non_null) = non_null.cloned() {
            let members = property.as_object_mut().expect("a schema");
            members.remove("anyOf");
            members.extend(non_null.as_object().expect("a schema").clone());
        }
    }
}

/// Every document, with its file name.
fn documents() -> [(&'static str, Value); 4] {
    let job = read::<JobMessage<'_>>();
    let (event, kyc) = (written::<Event>(), written::<KycEvent>());
    let asyncapi = asyncapi(&job, &event, &kyc);
    [
        ("job.schema.json", job),
        ("event.schema.json", event),
        ("kyc-event.schema.json", kyc),
        ("asyncapi.json", asyncapi),
    ]
}

/// The AsyncAPI 3.0 document: channels and operations, with the names of the default settings.
fn asyncapi(job: &Value, event: &Value, kyc: &Value) -> Value {
    let (channels, operations) = channels_and_operations();
    let message = |title: &str, schema: &Value| {
        json!({"title": title, "contentType": "application/json",
            "payload": {"schemaFormat": "application/schema+json;version=draft-07", "schema": embedded(schema)}})
    };
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": env!("CARGO_PKG_NAME"),
            "version": SPEC_VERSION,
            "description": "Jobs and outcomes over RabbitMQ (AMQP 0-9-1), as seen by plu-onboard: it receives jobs \
                and sends events. Events are delivered at least once; a repeated event has the same id, which is also \
                the message_id.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": {
            "job": message("Job", job), "event": message("Outcome of a job", event),
            "kycEvent": message("Result of a verification", kyc),
        }},
    })
}

fn channels_and_operations() -> (Map<String, Value>, Map<String, Value>) {
    let settings = Settings::load(None, std::iter::empty(), &Default::default()).expect("the defaults");
    let names = Names::new(&settings.amqp.prefix);
    let mut channels = Map::new();
    let mut operations = Map::new();
    let mut channel =
        |id: &str, address: &str, exchange: &str, kind: &str, message: &str, action: &str, summary: &str| {
            let bindings = json!({"amqp": {"is": "routingKey", "exchange": {
            "name": exchange, "type": kind, "durable": true, "autoDelete": false}}});
            let message_ref = json!({"$ref": format!("#/components/messages/{message}")});
            channels.insert(
                id.to_owned(),
                json!({"address": address, "messages": {message: message_ref}, "bindings": bindings}),
            );
            let amqp =
                if action == "send" { json!({"deliveryMode": 2, "mandatory": true}) } else { json!({"ack": true}) };
            operations.insert(
                id.to_owned(),
                json!({"action": action, "summary": summary, "channel": {"$ref": format!("#/channels/{id}")},
                "bindings": {"amqp": amqp}}),
            );
        };
    for lane in Lane::ALL {
        let (id, summary) = (format!("jobs.{}", lane.name()), format!("Receives jobs from the lane {}", lane.name()));
        channel(&id, lane.name(), &names.jobs_exchange(), "direct", "job", "receive", &summary);
    }
    for event_type in EventType::ALL {
        let name = event_type.name();
        let summary = format!("Publishes the outcome of a job: {}", event_type.short());
        channel(name, name, names.events_exchange(), "topic", "event", "send", &summary);
    }
    for kyc_type in KycType::ALL {
        let name = kyc_type.name();
        channel(
            name,
            name,
            names.events_exchange(),
            "topic",
            "kycEvent",
            "send",
            "Publishes the result of a verification",
        );
    }
    (channels, operations)
}

/// Prepares a schema for embedding: resolves every reference to its own definitions, because in the document `#` is the
/// whole document.
fn embedded(schema: &Value) -> Value {
    fn resolve(value: &Value, definitions: &Value) -> Value {
        match value {
            Value::Object(members) => {
                let name = members.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix("#/$defs/"));
                let mut resolved = match name {
                    Some(name) => resolve(&definitions[name], definitions),
                    None => json!({}),
                };
                for (key, member) in
                    members.iter().filter(|(key, _)| !["$ref", "$defs", "$schema"].contains(&key.as_str()))
                {
                    resolved[key] = resolve(member, definitions);
                }
                resolved
            }
            Value::Array(items) => items.iter().map(|item| resolve(item, definitions)).collect(),
            other => other.clone(),
        }
    }
    resolve(schema, &schema["$defs"])
}

#[test]
fn the_documents_in_docs_contract_are_up_to_date() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/contract");
    for (name, document) in documents() {
        let generated = serde_json::to_string_pretty(&document).unwrap() + "\n";
        let path = folder.join(name);
        if env::var_os("UPDATE_CONTRACT").is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, &generated).unwrap();
        }
        let stored = fs::read_to_string(&path).unwrap_or_default();
        assert!(stored == generated, "{name} is out of date: run UPDATE_CONTRACT=1 cargo test --all-features contract");
    }
}

#[test]
fn the_schema_has_the_lengths_and_required_fields_of_the_validation() {
    let schema = embedded(&read::<JobMessage<'_>>());
    let user = schema["properties"]["user"]["properties"].as_object().unwrap();
    assert_eq!(user.len(), Field::COUNT);
    let problems = |field: Field, text: String| {
        let mut raw = RawUser::default();
        raw.set(field, RawValue::Text(text.into()));
        let problems = validate(&raw).unwrap_err();
        problems.into_iter().filter(|problem| problem.field.as_deref() == Some(field.name())).count()
    };
    let mut checked = 0;
    for field in Field::ALL {
        let Some(longest) = user[field.name()]["maxLength"].as_u64().filter(|longest| *longest > 2) else { continue };
        let longest = usize::try_from(longest).unwrap();
        assert_eq!(problems(field, "x".repeat(longest)), 0, "{}", field.name());
        assert_eq!(problems(field, "x".repeat(longest + 1)), 1, "{}", field.name());
        checked += 1;
    }
    assert_eq!(checked, 7);
    let required: Vec<&str> =
        schema["properties"]["user"]["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let expected: Vec<&str> = Field::ALL.into_iter().filter(|field| field.is_required()).map(Field::name).collect();
    assert_eq!(required, expected);
}
