//! Everything a sidecar is made of, built leaf first from its configuration. Nothing here is set later.

use crate::bind::Ports;
use crate::config::{Config, Environment, Protocol};
use crate::observe::Observed;
use outrigger_api_grpc::internal::Internal;
use outrigger_channel::app::gated::Gated;
use outrigger_channel::app::grpc::GrpcApp;
use outrigger_channel::app::http::HttpApp;
use outrigger_channel::app::{self, AppChannel};
use outrigger_channel::endpoint::Endpoints;
use outrigger_channel::peer::Peers;
use outrigger_component::metadata::Metadata;
use outrigger_component::middleware::Pipeline;
use outrigger_component::registry::Registry;
use outrigger_component::resolver::{Instance, NameResolver, Target};
use outrigger_component::setup::Setup;
use outrigger_daemon::log::Log;
use outrigger_daemon::metrics;
use outrigger_daemon::ready::Ready;
use outrigger_daemon::tasks::Spawner;
use outrigger_daemon::trace::Tracer;
use outrigger_daemon::{tls, version};
use outrigger_resiliency::load;
use outrigger_resources::configuration::Configuration;
use outrigger_resources::disk::{self, Audience, Documents};
use outrigger_resources::{component, http_endpoint, resiliency, subscription};
use outrigger_runtime::access::{self, Rules};
use outrigger_runtime::admission::Admission;
use outrigger_runtime::bindings::{self, Bindings};
use outrigger_runtime::components::{self, Components, Identity, pipeline};
use outrigger_runtime::configuration::{self, Configuration as ConfigurationBlock};
use outrigger_runtime::endpoints;
use outrigger_runtime::health::Health;
use outrigger_runtime::invoke::{self, Invoke};
use outrigger_runtime::lock::Lock;
use outrigger_runtime::metadata::{self, AppConnection, AppHealth, Facts};
use outrigger_runtime::pubsub::{self, Pubsub};
use outrigger_runtime::secrets::Secrets;
use outrigger_runtime::state::State;
use std::sync::Arc;
use tokio::sync::watch;

/// Features that the reference has on unless told otherwise, and that are not here: nobody is to rely on them.
const ABSENT: [&str; 2] = ["HotReload", "WorkflowsRemoteActivityReminder"];
/// Name resolution when the Configuration names none.
const DEFAULT_RESOLVER: &str = "mdns";
/// Name resolution when a hub is there and the Configuration names none.
const HUB_RESOLVER: &str = "outrigger";

/// Why a sidecar cannot be put together; each text goes behind `Fatal error from runtime: `.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("failed to load resources from disk: {0}")]
    Resources(#[from] disk::Error),
    #[error("failed to load components: {0}")]
    Duplicates(#[from] disk::Duplicates),
    #[error("{0}")]
    Component(#[from] components::Error),
    #[error("invalid subscription: {0}")]
    Subscriptions(#[from] pubsub::declared::Error),
    #[error("error setting up metrics: {0}")]
    Metrics(String),
    #[error("invalid app channel: {0}")]
    App(#[from] outrigger_channel::error::Error),
    #[error("invalid app channel: {0}")]
    Tls(#[from] tls::Error),
    #[error(transparent)]
    Access(#[from] access::Error),
    #[error("name resolution {name:?}: {cause}")]
    Resolver {
        name: String,
        cause: outrigger_component::error::Error,
    },
    #[error(
        "{0} in the Configuration is not available in this version of Outrigger; remove it to go on without"
    )]
    Missing(&'static str),
}

/// What is handed down.
pub(crate) struct Context<'a> {
    pub(crate) config: &'a Config,
    pub(crate) configuration: &'a Configuration,
    pub(crate) environment: &'a Environment,
    pub(crate) registry: Arc<Registry>,
    pub(crate) ports: Ports,
    pub(crate) log: &'a Log,
    pub(crate) metrics: &'a metrics::Registry,
    /// Of the doors and of the app; `None`: metrics are off.
    pub(crate) http_metrics: Option<Arc<metrics::Http>>,
    pub(crate) grpc_metrics: Option<Arc<metrics::Grpc>>,
    pub(crate) tracer: &'a Tracer,
    pub(crate) spawner: &'a Spawner,
    pub(crate) ready: &'a Ready,
    pub(crate) outbound: &'a Ready,
}

/// The use cases, ready for the doors.
pub(crate) struct Assembled {
    pub(crate) app: Option<Arc<dyn AppChannel>>,
    /// What health probes say; nobody probes an app without health checks.
    pub(crate) healthy: watch::Sender<bool>,
    pub(crate) components: Components,
    pub(crate) pubsub: Arc<Pubsub>,
    pub(crate) state: Arc<State>,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) configuration: Arc<ConfigurationBlock>,
    pub(crate) lock: Arc<Lock>,
    pub(crate) bindings: Arc<Bindings>,
    pub(crate) invoke: Arc<Invoke>,
    pub(crate) metadata: Arc<metadata::Metadata>,
    pub(crate) health: Arc<Health>,
    pub(crate) names: Arc<dyn NameResolver>,
    pub(crate) internal: Internal,
    /// `spec.httpPipeline`.
    pub(crate) pipeline: Option<Pipeline>,
}

/// Safety rules that this version cannot enforce must not be dropped silently.
pub(crate) fn refuse(configuration: &Configuration) -> Result<(), Error> {
    if configuration.mtls.enabled {
        return Err(Error::Missing("spec.mtls.enabled (encryption between sidecars)"));
    }
    Ok(())
}

impl Context<'_> {
    /// Builds everything up to the doors.
    pub(crate) async fn assemble(&self) -> Result<Assembled, Error> {
        let documents = disk::read(&self.config.resources)?;
        self.warn(&documents.warnings);
        let policies = Arc::new(load::load(
            &self.documents::<resiliency::Resiliency>(&documents)?,
            Arc::new(Observed {
                log: self.log.clone(),
                metrics: metrics::Resiliency::new(self.metrics),
            }),
        ));
        let instance = self.instance();
        let names = self.names(&instance).await?;
        let (healthy, health) = watch::channel(false);
        let components = self.components(&documents, &instance).await?;
        let pipeline = |handlers, which| {
            let log = self.log.scope("dapr.middleware.http");
            pipeline::pipeline(&components.live().now(), handlers, which, &log)
        };
        let app = self.app(&health, pipeline(&self.configuration.app_http_pipeline, "app"))?;
        let pipeline = pipeline(&self.configuration.http_pipeline, "server");
        let endpoint_documents = self.documents::<http_endpoint::HttpEndpoint>(&documents)?;
        let endpoints = Arc::new(self.endpoints(&endpoint_documents, &components).await);
        let component_metrics = Arc::new(metrics::Component::new(
            self.metrics,
            &self.config.namespace_variable,
        ));
        let pubsub = Arc::new(Pubsub::new(pubsub::Parts {
            app_id: self.config.app_id.clone(),
            namespace: self.config.namespace().to_owned(),
            components: components.live(),
            app: app.clone(),
            declared: self.documents::<subscription::Subscription>(&documents)?,
            ask_app: !self.config.skip_subscribe,
            policies: policies.clone(),
            metrics: component_metrics.clone(),
            tracer: self.tracer.clone(),
            log: self.log.scope("dapr.runtime.processor.subscription"),
            tasks: self.spawner.clone(),
        })?);
        let me = Target {
            app_id: self.config.app_id.clone(),
            namespace: self.config.namespace().to_owned(),
        };
        let invoke = Arc::new(Invoke::new(invoke::Parts {
            me: me.clone(),
            app: app.clone(),
            peers: Arc::new(Peers::new(me, self.config.body_limit, self.spawner.clone())),
            names: names.clone(),
            endpoints,
            access: Rules::new(
                &self.configuration.access_control,
                !self.config.protocol.is_grpc(),
            )?,
            host_address: self.config.host_address.clone(),
            host_name: self.config.host_name.clone(),
            policies: policies.clone(),
            body_limit: self.config.body_limit,
            metrics: metrics::Invocation::new(self.metrics),
            access_metrics: metrics::Access::new(self.metrics),
        }));
        let metadata = Arc::new(metadata::Metadata::new(
            self.facts(&documents)?,
            components.live(),
            pubsub.changes(),
        ));
        let state = Arc::new(State::new(
            components.live(),
            policies.clone(),
            component_metrics.clone(),
            pubsub.outbox(),
        ));
        let bindings = Arc::new(Bindings::new(bindings::Parts {
            components: components.live(),
            app: app.clone(),
            state: state.clone(),
            policies: policies.clone(),
            metrics: component_metrics.clone(),
            tracer: self.tracer.clone(),
            log: self.log.scope("dapr.runtime.processor.binding"),
            tasks: self.spawner.clone(),
            probe_timeout: self.config.binding_probe_timeout,
        }));
        Ok(Assembled {
            internal: Internal::new(
                invoke.clone(),
                self.tracer.clone(),
                self.config.app_id.clone(),
                self.config.body_limit,
                Admission::new(self.config.max_requests),
            ),
            configuration: Arc::new(ConfigurationBlock::new(configuration::Parts {
                components: components.live(),
                app: app.clone(),
                policies: policies.clone(),
                metrics: component_metrics.clone(),
                log: self.log.scope("dapr.runtime.http"),
                tasks: self.spawner.clone(),
            })),
            lock: Arc::new(Lock::new(components.live(), policies.clone())),
            state,
            bindings,
            secrets: Arc::new(Secrets::new(components.live(), policies, component_metrics)),
            health: Arc::new(Health::new(
                self.config.app_id.clone(),
                self.ready.clone(),
                self.outbound.clone(),
            )),
            pipeline,
            app,
            healthy,
            components,
            pubsub,
            invoke,
            metadata,
            names,
        })
    }

    /// The documents of one kind that are meant for this sidecar.
    fn documents<T: disk::Resource>(&self, documents: &Documents) -> Result<Vec<T>, disk::Duplicates> {
        let loaded = documents.load::<T>();
        self.warn(&loaded.warnings);
        let namespace =
            (!self.config.namespace_variable.is_empty()).then_some(self.config.namespace_variable.as_str());
        disk::select(
            loaded.items,
            Audience {
                app_id: &self.config.app_id,
                namespace,
            },
        )
    }

    fn warn(&self, warnings: &[disk::Warning]) {
        for warning in warnings {
            self.log.warn(warning);
        }
    }

    fn instance(&self) -> Instance {
        // Peers must be able to reach what we listen on: a loopback address stays one.
        let (host, near) = match (
            self.config.internal_host.as_str(),
            self.config.host_address.as_str(),
        ) {
            ("" | "0.0.0.0" | "::", given) if self.config.host_given => (given, given),
            ("" | "0.0.0.0", found) => (found, "127.0.0.1"),
            ("::", found) => (found, "::1"),
            (host, _) => (host, host),
        };
        Instance {
            app_id: self.config.app_id.clone(),
            namespace: self.config.namespace().to_owned(),
            host: host.to_owned(),
            near_host: near.to_owned(),
            internal_port: self.ports.internal_port,
            http_port: self.ports.http_port,
            grpc_port: self.ports.grpc_port,
        }
    }

    async fn names(&self, instance: &Instance) -> Result<Arc<dyn NameResolver>, Error> {
        let asked = self.configuration.name_resolution.as_ref();
        let name = match asked
            .map(|asked| asked.component.as_str())
            .filter(|name| !name.is_empty())
        {
            Some(name) => name,
            None if self.config.hub_socket.is_some() => HUB_RESOLVER,
            None => DEFAULT_RESOLVER,
        };
        let version = asked.map(|asked| asked.version.as_str()).unwrap_or_default();
        let setup = Setup {
            name: name.to_owned(),
            app_id: instance.app_id.clone(),
            namespace: instance.namespace.clone(),
            config: asked.map(|asked| flat(&asked.configuration)).unwrap_or_default(),
            metadata: asked.map(|asked| flat(&asked.configuration)).unwrap_or_default(),
            log: self.log.scope("dapr.contrib"),
            instance: instance.clone(),
        };
        let names = self
            .registry
            .resolvers()
            .build(name, version, setup)
            .await
            .map_err(|cause| Error::Resolver {
                name: name.to_owned(),
                cause,
            })?;
        self.log
            .info(format_args!("Initialized name resolution to {name}"));
        Ok(names)
    }

    fn app(
        &self,
        health: &watch::Receiver<bool>,
        pipeline: Option<Pipeline>,
    ) -> Result<Option<Arc<dyn AppChannel>>, Error> {
        let Some(app) = &self.config.app else {
            return Ok(None);
        };
        let tls = |protocols: &[&[u8]]| {
            let settings = tls::Client {
                trust: tls::Trust::Anybody,
                identity: None,
                protocols,
            };
            let config = app.protocol.is_secure().then(|| tls::client(&settings));
            config.transpose().map(|config| config.map(Arc::new))
        };
        let channel = if app.protocol.is_grpc() {
            Arc::new(GrpcApp::new(
                app::grpc::Config {
                    host: app.host.clone(),
                    port: app.port,
                    tls: tls(&[b"h2"])?,
                    token: self.config.app_token.0.clone(),
                    max_concurrency: app.max_concurrency,
                    limit: self.config.body_limit,
                    health_timeout: app.health_timeout,
                    metrics: self.grpc_metrics.clone(),
                },
                self.spawner.clone(),
            )?) as Arc<dyn AppChannel>
        } else {
            Arc::new(HttpApp::new(
                app::http::Config {
                    host: app.host.clone(),
                    port: app.port,
                    http2: app.protocol == Protocol::H2c,
                    tls: tls(&[b"http/1.1"])?,
                    token: self.config.app_token.0.clone(),
                    max_concurrency: app.max_concurrency,
                    health_path: app.health_path.clone(),
                    health_timeout: app.health_timeout,
                    pipeline,
                    metrics: self.http_metrics.clone(),
                },
                &self.config.app_id,
                self.spawner.clone(),
            )?)
        };
        Ok(Some(match app.health {
            Some(_) => Arc::new(Gated::new(channel, health.clone())),
            None => channel,
        }))
    }

    async fn components(&self, documents: &Documents, instance: &Instance) -> Result<Components, Error> {
        let settings = components::Settings {
            registry: self.registry.clone(),
            identity: Identity {
                app_id: self.config.app_id.clone(),
                namespace: self.config.namespace_variable.clone(),
                pod: self.config.pod_name.clone(),
            },
            instance: instance.clone(),
            environment: self.variables(),
            default_secret_store: String::new(),
            denied: self.configuration.denied_components.clone(),
            secret_scopes: self.configuration.secrets.clone(),
            metrics: metrics::Loading::new(self.metrics),
            log: self.log.scope("dapr.runtime.processor"),
            component_log: self.log.scope("dapr.contrib"),
        };
        Ok(Components::load(&settings, self.documents::<component::Component>(documents)?).await?)
    }

    /// What `envRef` may see.
    fn variables(&self) -> components::secrets::Environment {
        components::secrets::Environment {
            lookup: self.environment.lookup(),
            allowed: self.config.env_keys.clone(),
        }
    }

    /// Services without a sidecar. Those that cannot be used are named in the log; the sidecar starts all the same.
    async fn endpoints(
        &self,
        documents: &[http_endpoint::HttpEndpoint],
        components: &Components,
    ) -> Endpoints {
        let log = self.log.scope("dapr.runtime.processor");
        let sources = endpoints::Sources {
            components: &components.live().now(),
            environment: &self.variables(),
            default_store: "",
            log: &log,
        };
        let endpoints = Endpoints::new(sources.resolve(documents).await, self.spawner);
        for (name, reason) in endpoints.broken() {
            log.error(format_args!("HTTPEndpoint {name} cannot be used: {reason}"));
        }
        for document in documents {
            log.info(format_args!(
                "HTTP endpoint loaded: {} ({})",
                document.name, document.base_url
            ));
        }
        endpoints
    }

    fn facts(&self, documents: &Documents) -> Result<Facts, disk::Duplicates> {
        let app = self.config.app.as_ref();
        Ok(Facts {
            app_id: self.config.app_id.clone(),
            version: version::COMPAT_VERSION.to_owned(),
            enabled_features: self
                .configuration
                .enabled_features()
                .into_iter()
                .filter(|feature| !ABSENT.contains(feature))
                .map(str::to_owned)
                .collect(),
            http_endpoints: self
                .documents::<http_endpoint::HttpEndpoint>(documents)?
                .into_iter()
                .map(|document| document.name)
                .collect(),
            resiliencies: self
                .documents::<resiliency::Resiliency>(documents)?
                .into_iter()
                .map(|document| document.name)
                .collect(),
            app: AppConnection {
                port: app.map_or(0, |app| app.port),
                protocol: self.config.protocol.name().to_owned(),
                channel_address: app.map(|app| app.host.clone()).unwrap_or_default(),
                max_concurrency: app
                    .and_then(|app| app.max_concurrency)
                    .and_then(|most| i32::try_from(most).ok())
                    .unwrap_or_default(),
                health: app.and_then(|app| {
                    let health = app.health?;
                    Some(AppHealth {
                        path: if app.protocol.is_grpc() {
                            String::new()
                        } else {
                            app.health_path.clone()
                        },
                        interval: health.interval,
                        timeout: health.timeout,
                        threshold: i32::try_from(health.threshold).unwrap_or(i32::MAX),
                    })
                }),
            },
        })
    }
}

/// A name resolver's configuration, which may be any JSON, as metadata: texts as they are, the rest as JSON.
fn flat(configuration: &serde_json::Value) -> Metadata {
    let serde_json::Value::Object(members) = configuration else {
        return Metadata::new();
    };
    members
        .iter()
        .map(|(name, value)| {
            (
                name.clone(),
                value.as_str().map_or_else(|| value.to_string(), str::to_owned),
            )
        })
        .collect()
}
