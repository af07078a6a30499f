//! The values of records between the app and the broker: as they are, or as Avro by a schema of the registry.
//!
//! COMPAT(components-contrib common/component/kafka/kafka.go SerializeValue, DeserializeValue): a value in Confluent's wire
//! format is a zero, the schema's number in four bytes, and the binary form.

use crate::avro::{Json, Schema};
use crate::failure::Failure;
use crate::registry::{self, Registry};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use outrigger_daemon::tasks::Spawner;

pub(crate) const VALUE_SCHEMA_TYPE: &str = "valueSchemaType";
const MAGIC: u8 = 0;
/// Of magic byte and number.
const HEAD: usize = 5;

/// What `valueSchemaType` says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    Plain,
    Avro,
}

impl Format {
    /// # Errors
    /// When there is no such format.
    pub(crate) fn named(name: &str) -> Result<Self, Failure> {
        match name.to_ascii_lowercase().as_str() {
            "" | "none" => Ok(Self::Plain),
            "avro" => Ok(Self::Avro),
            _ => Err(Failure::Invalid(format!(
                "error parsing schema type. '{name}' is not a supported value (metadata {VALUE_SCHEMA_TYPE}: Avro or None)"
            ))),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Settings {
    pub registry: Option<registry::Settings>,
    pub json: Json,
}

pub(crate) struct Values {
    registry: Option<Registry>,
    json: Json,
}

impl Values {
    pub(crate) fn new(settings: Settings, spawner: &Spawner) -> Self {
        Self {
            registry: settings.registry.map(|settings| Registry::new(settings, spawner)),
            json: settings.json,
        }
    }

    /// # Errors
    /// When values are to be Avro and there is no registry.
    pub(crate) fn check(&self, format: Format) -> Result<(), Failure> {
        match format {
            Format::Plain => Ok(()),
            Format::Avro => self.registry().map(drop),
        }
    }

    /// The app's JSON, by the newest schema of the topic.
    ///
    /// # Errors
    /// When there is no schema, or the value does not fit it.
    pub(crate) async fn encode(&self, topic: &str, value: &[u8]) -> Result<Bytes, Failure> {
        let (number, schema) = self.registry()?.latest(topic).await?;
        let mut framed = BytesMut::with_capacity(HEAD + value.len());
        framed.put_u8(MAGIC);
        framed.put_u32(number);
        schema.encode(value, self.json, &mut framed).map_err(|fault| {
            Failure::Invalid(format!(
                "the message does not fit schema {number}, the newest of subject {topic}-value: {fault}"
            ))
        })?;
        Ok(framed.freeze())
    }

    /// JSON for the app, by the schema whose number the value bears.
    ///
    /// # Errors
    /// When there is no schema, or the value does not fit it.
    pub(crate) async fn decode(&self, mut value: Bytes) -> Result<Bytes, Failure> {
        let registry = self.registry()?;
        if value.len() < HEAD {
            return Err(Failure::Invalid(
                "value is too short for an Avro value with its schema's number".to_owned(),
            ));
        }
        if value.get_u8() != MAGIC {
            return Err(Failure::Invalid(
                "the value does not begin with a zero, so it bears no schema's number: subscribe without valueSchemaType"
                    .to_owned(),
            ));
        }
        let number = value.get_u32();
        let schema = registry.schema(number).await?;
        let json = Schema::decode(&schema, value, self.json).map_err(|fault| {
            Failure::Invalid(format!("the value does not fit its schema {number}: {fault}"))
        })?;
        Ok(json.into())
    }

    fn registry(&self) -> Result<&Registry, Failure> {
        self.registry.as_ref().ok_or_else(|| {
            Failure::Invalid(format!(
                "schema registry details not set: {VALUE_SCHEMA_TYPE} Avro needs metadata schemaRegistryURL"
            ))
        })
    }
}
