//! `outrigger explain`: what a sidecar does, in words, before or while it does it.

use crate::commands::Context;
use crate::http::Sidecar;
use crate::instances;
use crate::roles;
use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use outrigger_runtime::pubsub::active::Kind;
use outrigger_runtime::pubsub::plan::Plan;
use outrigger_sidecar::explain::{self, Ask, Listed};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// How long a sidecar that runs may take to say what it subscribes to.
const ANSWER: Duration = Duration::from_secs(2);

/// Explain what a sidecar does with the resources it has
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  outrigger explain subscription orders --app-id shop")]
pub(crate) struct Flags {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// What becomes of the events of one subscription
    #[command(
        long_about = "What becomes of the events of one subscription: broker, group, concurrency, order, routes, retries, \
            dead letters, from the resources that the sidecar of the app starts with. When a sidecar of the app runs, the \
            subscriptions that the app itself asked for are known, too.",
        after_help = "Examples:\n  outrigger explain subscription orders --app-id shop --resources-path resources\n  \
            outrigger explain subscription pubsub/orders --app-id shop --json\n\n\
            Exit codes: 0 done, 1 there is no such subscription or the resources cannot be read, 2 wrong usage."
    )]
    Subscription(Wanted),
}

#[derive(Debug, Args)]
struct Wanted {
    /// Name of the Subscription, or `pubsub/topic`
    #[arg(value_name = "NAME")]
    name: String,

    /// The app whose sidecar is meant
    #[arg(long, short = 'a', value_name = "ID")]
    app_id: String,

    /// Folder with resources; several options or commas for several [default: as for `run`]
    #[arg(
        long,
        visible_alias = "resources-paths",
        short = 'd',
        value_name = "DIR",
        value_delimiter = ','
    )]
    resources_path: Vec<PathBuf>,

    /// Configuration file [default: as for `run`]
    #[arg(long, short = 'c', value_name = "FILE")]
    config: Option<PathBuf>,

    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(flags: Flags, context: &Context) -> Result<u8> {
    let What::Subscription(wanted) = flags.what;
    let resources = match wanted.resources_path.is_empty() {
        true => vec![context.home.resources()?],
        false => wanted.resources_path.clone(),
    };
    let ask = Ask {
        app_id: wanted.app_id.clone(),
        namespace: context.environment.get("NAMESPACE").unwrap_or_default(),
        resources,
        configurations: wanted
            .config
            .clone()
            .or_else(|| context.home.configuration())
            .into_iter()
            .collect(),
        running: running(&wanted.app_id, context).await?,
    };
    let registry = roles::registry(&context.environment, None);
    let variable = context.environment.lookup();
    let explained = explain::subscriptions(&ask, &registry, |name| variable(name))?;
    for warning in &explained.warnings {
        context.screen.failure(&format!("warning: {warning}"));
    }
    let found: Vec<&Plan> = explained
        .plans
        .iter()
        .filter(|plan| is(plan, &wanted.name))
        .collect();
    if found.is_empty() {
        bail!("{}", unknown(&wanted, &explained.plans, &ask));
    }
    if wanted.json {
        let plans: Vec<Value> = found.iter().map(|plan| as_json(plan)).collect();
        context.screen.line(&serde_json::to_string_pretty(&plans)?);
    } else {
        let texts: Vec<String> = found.iter().map(|plan| text(plan)).collect();
        context.screen.write(texts.join("\n").as_bytes());
    }
    Ok(0)
}

/// What the sidecars of the app list, if any run. One that does not answer is as one that does not run.
async fn running(app_id: &str, context: &Context) -> Result<Vec<Listed>> {
    let mut listed = Vec::new();
    for instance in instances::list(&context.environment).await? {
        if instance.app_id != app_id || !instance.answers {
            continue;
        }
        let sidecar = Sidecar::new(instance.place.clone(), &context.environment);
        let answer = sidecar.get("/v1.0/metadata", ANSWER).await?;
        let metadata: Value = serde_json::from_slice(&answer.body)
            .with_context(|| format!("the metadata of the sidecar of {app_id:?} is not JSON"))?;
        let Some(subscriptions) = metadata.get("subscriptions") else {
            continue;
        };
        let more: Vec<Listed> = serde_json::from_value(subscriptions.clone())
            .with_context(|| format!("the metadata of the sidecar of {app_id:?} cannot be read"))?;
        for one in more {
            if !listed.contains(&one) {
                listed.push(one);
            }
        }
    }
    Ok(listed)
}

fn is(plan: &Plan, name: &str) -> bool {
    plan.name.as_deref() == Some(name) || format!("{}/{}", plan.pubsub, plan.topic) == name
}

fn unknown(wanted: &Wanted, plans: &[Plan], ask: &Ask) -> String {
    let folders: Vec<String> = ask
        .resources
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let known: Vec<String> = plans
        .iter()
        .map(|plan| {
            let place = format!("{}/{}", plan.pubsub, plan.topic);
            match &plan.name {
                Some(name) => format!("{name} ({place})"),
                None => place,
            }
        })
        .collect();
    let known = match known.is_empty() {
        true => "there are none".to_owned(),
        false => format!("there are: {}", known.join(", ")),
    };
    let own = match ask.running.is_empty() {
        true => "; what the app itself subscribes to is known while its sidecar runs",
        false => "",
    };
    format!(
        "app {:?} has no subscription {:?} in {} ({known}){own}",
        ask.app_id,
        wanted.name,
        folders.join(", ")
    )
}

fn title(plan: &Plan) -> String {
    let place = format!("{}/{}", plan.pubsub, plan.topic);
    match &plan.name {
        Some(name) => format!("Subscription {name} to {place}"),
        None => format!("Subscription to {place}"),
    }
}

fn text(plan: &Plan) -> String {
    let width = plan
        .lines
        .iter()
        .map(|(heading, _)| heading.len())
        .max()
        .unwrap_or(0);
    let mut text = title(plan) + "\n";
    for (heading, sentence) in &plan.lines {
        text.push_str(&format!("  {heading:<width$}  {sentence}\n"));
    }
    text
}

fn as_json(plan: &Plan) -> Value {
    let mut says = Map::new();
    for (heading, sentence) in &plan.lines {
        // A heading may come twice.
        match says.get_mut(*heading) {
            Some(Value::String(said)) => *said = format!("{said}; {sentence}"),
            _ => {
                says.insert((*heading).to_owned(), json!(sentence));
            }
        }
    }
    json!({
        "name": plan.name,
        "kind": match plan.kind {
            Kind::Declarative => "declarative",
            Kind::Programmatic => "programmatic",
            Kind::Streaming => "streaming",
        },
        "pubsub": plan.pubsub,
        "topic": plan.topic,
        "type": plan.broker_type,
        "version": plan.version,
        "group": plan.group,
        "deadLetterTopic": plan.dead_letter_topic,
        "says": says,
    })
}
