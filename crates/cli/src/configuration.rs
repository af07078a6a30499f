//! `outrigger configuration`: reads and writes the values of `configuration.outrigger`.

use crate::commands::Context;
use crate::hub::{self, Life};
use crate::screen::table;
use anyhow::{Result, bail};
use clap::{Args, Subcommand};

/// Read and write the configuration that apps of this machine share
#[derive(Debug, Args)]
#[command(
    long_about = "Read and write the configuration that apps of this machine share.\n\n\
        Apps read it through their sidecar, from a component of type configuration.outrigger, and are told of each change.",
    after_help = "Examples:\n  outrigger configuration set colour red\n  outrigger configuration list\n  \
        outrigger configuration delete colour\n\n\
        Exit codes: 0 done, 1 failed or there is no such key, 2 wrong usage."
)]
pub(crate) struct Flags {
    /// The space of the component's metadata, which is its name unless it says otherwise
    #[arg(
        long,
        short = 's',
        global = true,
        value_name = "NAME",
        default_value = "configstore"
    )]
    store: String,

    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Write a value
    #[command(after_help = "Example:\n  outrigger configuration set colour red")]
    Set { key: String, value: String },
    /// Remove a key
    #[command(after_help = "Example:\n  outrigger configuration delete colour")]
    Delete { key: String },
    /// Show all keys with their values and versions
    #[command(after_help = "Example:\n  outrigger configuration list")]
    List,
}

pub(crate) async fn run(flags: Flags, context: &Context) -> Result<u8> {
    let store = &flags.store;
    match flags.what {
        What::Set { key, value } => {
            let hub = hub::ensure(&context.home, Life::OfItsOwn).await?;
            hub.put(store, &key, Some(value)).await?;
        }
        What::Delete { key } => {
            let hub = hub::ensure(&context.home, Life::OfItsOwn).await?;
            if !hub.put(store, &key, None).await? {
                bail!("{store:?} has no key {key:?}; `outrigger configuration list` shows what there is");
            }
        }
        What::List => {
            let hub = hub::ensure(&context.home, Life::OfItsOwn).await?;
            let mut rows = vec![["KEY", "VALUE", "VERSION"].map(str::to_owned).to_vec()];
            for (key, item) in hub.values(store).await? {
                let value = String::from_utf8_lossy(&item.value).into_owned();
                rows.push(vec![key, value, item.etag]);
            }
            context.screen.write(table(&rows).as_bytes());
        }
    }
    Ok(0)
}
