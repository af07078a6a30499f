//! The life of a sidecar, from ports to drain, in one function each way.

use crate::app_watch;
use crate::assemble::{self, Assembled, Context};
use crate::bind::{self, Bound};
use crate::config::{Config, Environment};
use crate::grpc;
use crate::tracing;
use outrigger_api_http::{ApiLogging, Blocks, Door, Filter, Parts, Shutdown};
use outrigger_component::registry::Registry;
use outrigger_daemon::drain::serve::{self, Listener, Protocol, Socket};
use outrigger_daemon::drain::{self, Trigger, Watch};
use outrigger_daemon::log::Log;
use outrigger_daemon::metrics;
use outrigger_daemon::ready::Ready;
use outrigger_daemon::tasks::{OnExit, Spawner, Tasks};
use outrigger_daemon::trace::{self, Tracer};
use outrigger_resources::configuration::Configuration;
use outrigger_resources::disk;
use outrigger_runtime::admission::Admission;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Time between the request to stop by force and the exit: the answer must leave.
const FORCE_DELAY: Duration = Duration::from_millis(100);

/// How a life ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Asked to, by signal or API.
    Stopped,
    /// SIGHUP: begin anew with what the files say now.
    Reload,
    /// `dapr-force-shutdown`.
    Forced,
    /// The graceful time was over before everything had ended.
    TimedOut,
    /// A task that is needed has ended.
    Casualty(String),
}

/// Why a life did not begin; texts go behind `Fatal error from runtime: `.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("error loading configuration: {0}")]
    Configuration(#[from] disk::ConfigurationError),
    #[error(transparent)]
    Assemble(#[from] assemble::Error),
    #[error(transparent)]
    Bind(#[from] bind::Error),
    #[error(transparent)]
    TracingSpec(#[from] tracing::Error),
    #[error("failed to setup tracing: {0}")]
    Tracing(#[from] trace::export::Error),
}

/// What comes from outside while the sidecar lives.
pub(crate) struct Outside {
    /// Fired by SIGTERM and SIGINT.
    pub(crate) stop: Watch,
    /// Counts SIGHUPs.
    pub(crate) reloads: watch::Receiver<u64>,
}

/// Runs one sidecar until it ends.
pub(crate) async fn life(
    config: &Config,
    environment: &Environment,
    registry: Registry,
    log: &Log,
    mut outside: Outside,
) -> Result<End, Error> {
    let started = Instant::now();
    let variable = environment.lookup();
    let configuration = disk::configuration(&config.configurations, |name| variable(name))?;
    assemble::refuse(&configuration)?;
    let bound = Bound::all(config).await?;
    let (casualties, mut casualty) = drain::channel();
    let tasks = Tasks::new(log, casualties);
    let spawner = tasks.spawner();
    let metrics = metrics_registry(config, &configuration)
        .map_err(|error| assemble::Error::Metrics(error.to_string()))?;
    let (tracer, pump) = Tracer::new(
        &tracing::settings(configuration.tracing.clone(), &config.app_id, |name| {
            variable(name)
        })?,
        log,
    )?;
    if let Some(sampler) = tracer.sampler() {
        log.info(format_args!("Dapr trace sampler initialized: {sampler}"));
    }
    let (pump_stop, pump_watch) = drain::channel();
    match pump {
        Some(pump) => tasks.spawn("trace exporter", OnExit::Log, pump.run(pump_watch)),
        // A claim that nobody holds must not be waited for at the end.
        None => drop(pump_watch),
    }
    let (ready, outbound) = (Ready::new(), Ready::new());
    let (starting, outbound_starting) = (ready.part("runtime"), outbound.part("runtime"));
    let context = Context {
        config,
        configuration: &configuration,
        environment,
        registry: Arc::new(registry),
        ports: bound.ports(config),
        log,
        metrics: &metrics,
        http_metrics: http_metrics(&metrics, &configuration)?,
        grpc_metrics: configuration
            .metrics
            .enabled
            .then(|| Arc::new(metrics::Grpc::new(&metrics))),
        tracer: &tracer,
        spawner: &spawner,
        ready: &ready,
        outbound: &outbound,
    };
    let assembled = context.assemble().await?;
    // Tools wait for these lines (features 3.17), and they are true of every sidecar of this version.
    log.info("Actor runtime disabled");
    log.info("Scheduler disabled");
    let (commands, mut command) = mpsc::channel(4);
    let doors = open(&context, &configuration, &assembled, bound, commands, &tasks)?;
    outbound_starting.done();
    let serving = Serving {
        assembled,
        doors,
        pump_stop,
        ready: ready.clone(),
    };

    let begin = async {
        let healthy = serving.await_app(config, log, &tasks).await;
        log.info(format_args!(
            "dapr initialized. Status: Running. Init Elapsed {}ms",
            started.elapsed().as_millis()
        ));
        starting.done();
        healthy
    };
    let healthy = tokio::select! {
        healthy = begin => healthy,
        end = ended(&mut outside, &mut command, &mut casualty, &tasks) => {
            return Ok(serving.stop(end, config, log, &tasks, None).await);
        }
    };
    let follow = serving.follow_health(config, log, healthy.clone());
    let end = tokio::select! {
        end = ended(&mut outside, &mut command, &mut casualty, &tasks) => end,
        () = follow => End::Stopped,
    };
    Ok(serving.stop(end, config, log, &tasks, healthy).await)
}

/// Whatever ends a life first.
async fn ended(
    outside: &mut Outside,
    command: &mut mpsc::Receiver<Shutdown>,
    casualty: &mut Watch,
    tasks: &Tasks,
) -> End {
    tokio::select! {
        () = outside.stop.draining() => End::Stopped,
        _ = outside.reloads.changed() => End::Reload,
        Some(kind) = command.recv() => match kind {
            Shutdown::Graceful => End::Stopped,
            Shutdown::Force => End::Forced,
        },
        () = casualty.draining() => End::Casualty(tasks.casualty().unwrap_or("a task that is needed has ended").to_owned()),
    }
}

fn metrics_registry(
    config: &Config,
    configuration: &Configuration,
) -> Result<metrics::Registry, metrics::RuleError> {
    let rules = configuration
        .metrics
        .rules
        .iter()
        .map(|rule| metrics::Rule {
            name: rule.name.clone(),
            labels: rule
                .labels
                .iter()
                .map(|label| metrics::RuleLabel {
                    name: label.name.clone(),
                    replacements: label
                        .regex
                        .iter()
                        .map(|(to, pattern)| (to.clone(), pattern.clone()))
                        .collect(),
                })
                .collect(),
        })
        .collect();
    let bounds: Vec<u32> = configuration
        .metrics
        .latency_buckets
        .iter()
        .filter_map(|bound| u32::try_from(*bound).ok())
        .collect();
    let registry = metrics::Registry::new(metrics::Settings {
        rules,
        latency: metrics::Buckets::milliseconds_at(&bounds),
        ..metrics::Settings::sidecar(&config.app_id)
    })?;
    metrics::process(&registry);
    Ok(registry)
}

/// What is counted of HTTP, unless metrics are off.
fn http_metrics(
    registry: &metrics::Registry,
    configuration: &Configuration,
) -> Result<Option<Arc<metrics::Http>>, assemble::Error> {
    if !configuration.metrics.enabled {
        return Ok(None);
    }
    let http = &configuration.metrics.http;
    let settings = metrics::HttpConfig {
        increased_cardinality: http.increased_cardinality,
        path_matching: http.path_matching.clone(),
        exclude_verbs: http.exclude_verbs,
    };
    metrics::Http::new(registry, &settings)
        .map(|http| Some(Arc::new(http)))
        .map_err(|error| assemble::Error::Metrics(error.to_string()))
}

/// Servers under way, and how to end them.
struct Doors {
    drain: Trigger,
    /// Metrics outlive the doors, so that the end can be seen.
    metrics: Trigger,
}

/// A sidecar that serves.
struct Serving {
    assembled: Assembled,
    doors: Doors,
    pump_stop: Trigger,
    ready: Ready,
}

/// Opens every door. Shutdown requests of the API arrive on `commands`.
fn open(
    context: &Context<'_>,
    configuration: &Configuration,
    assembled: &Assembled,
    listeners: Bound,
    commands: mpsc::Sender<Shutdown>,
    tasks: &Tasks,
) -> Result<Doors, Error> {
    let (config, log) = (context.config, context.log);
    let (drain, watch) = drain::channel();
    let (metrics_drain, metrics_watch) = drain::channel();
    let errors = configuration
        .metrics
        .record_error_codes
        .then(|| Arc::new(metrics::Errors::new(context.metrics)));
    let parts = || Parts {
        metadata: assembled.metadata.clone(),
        health: assembled.health.clone(),
        tracer: context.tracer.clone(),
        metrics: context.http_metrics.clone(),
        errors: errors.clone(),
        log: log.clone(),
    };
    let logging = config.api_logging.unwrap_or(configuration.api_logging.enabled);
    let rules = |rules: &[outrigger_resources::configuration::access::ApiRule]| -> Vec<(String, String)> {
        rules
            .iter()
            .filter(|rule| rule.protocol.is_empty() || rule.protocol.eq_ignore_ascii_case("http"))
            .map(|rule| (rule.version.clone(), rule.name.clone()))
            .collect()
    };
    let (allowed, denied) = (
        rules(&configuration.api.allowed),
        rules(&configuration.api.denied),
    );
    let shutdown = {
        let log = log.clone();
        Arc::new(move |kind| {
            log.info("Shutdown requested via API");
            // A second request while one is under way adds nothing: a full queue may drop it.
            let _queued = commands.try_send(kind);
        })
    };
    let door = Door::new(
        outrigger_api_http::Config {
            body_limit: Some(config.body_limit),
            body_patience: config.body_patience,
            api_token: config.api_token.0.clone(),
            allowed_origins: config.allowed_origins.clone(),
            filter: Filter::new(
                allowed
                    .iter()
                    .map(|(version, name)| (version.as_str(), name.as_str())),
                denied
                    .iter()
                    .map(|(version, name)| (version.as_str(), name.as_str())),
            ),
            admission: Admission::new(config.max_requests),
            h2c: !config.disable_h2c,
            api_logging: logging.then_some(ApiLogging {
                obfuscate_urls: configuration.api_logging.obfuscate_urls,
                omit_health_checks: configuration.api_logging.omit_health_checks,
            }),
            pipeline: assembled.pipeline.clone(),
        },
        parts(),
        Blocks {
            invoke: assembled.invoke.clone(),
            state: assembled.state.clone(),
            pubsub: assembled.pubsub.clone(),
            secrets: assembled.secrets.clone(),
            configuration: assembled.configuration.clone(),
            lock: assembled.lock.clone(),
            bindings: assembled.bindings.clone(),
            shutdown: shutdown.clone(),
            tasks: context.spawner.clone(),
            drain: drain.clone(),
        },
    );
    let options = serve::Options {
        protocol: if config.disable_h2c {
            Protocol::Http1
        } else {
            Protocol::Auto
        },
        max_head: config.header_limit,
        deadline: config.graceful,
        ..serve::Options::default()
    };
    for listener in listeners.http {
        serve_http(
            tasks,
            "HTTP API",
            listener,
            door.clone(),
            watch.clone(),
            options.clone(),
            log,
        );
    }
    if let Some(listener) = listeners.public {
        serve_http(
            tasks,
            "public API",
            listener,
            Door::public(parts()),
            watch.clone(),
            options.clone(),
            log,
        );
    }
    let http2 = serve::Options {
        protocol: Protocol::Http2,
        ..options
    };
    let grpc_door = grpc::door(
        context,
        assembled,
        errors,
        logging,
        Arc::new(move |how| {
            shutdown(match how {
                outrigger_api_grpc::public::Shutdown::Graceful => Shutdown::Graceful,
                outrigger_api_grpc::public::Shutdown::Force => Shutdown::Force,
            });
        }),
        drain.clone(),
    );
    for listener in listeners.grpc {
        let (door, options) = (grpc_door.clone(), http2.clone());
        serve_service(
            tasks,
            "gRPC API",
            listener,
            watch.clone(),
            options,
            log,
            move |_: &Socket| door.service(),
        );
    }
    let internal = assembled.internal.clone();
    serve_service(
        tasks,
        "internal gRPC server",
        listeners.internal,
        watch.clone(),
        http2,
        log,
        move |_: &Socket| internal.service(),
    );
    if let Some(listener) = listeners.metrics.filter(|_| configuration.metrics.enabled) {
        let (registry, spawner, log) = (context.metrics.clone(), context.spawner.clone(), log.clone());
        tasks.spawn("metrics server", OnExit::Log, async move {
            metrics::serve(listener, registry, metrics_watch, &spawner, &log).await;
        });
    }
    Ok(Doors {
        drain,
        metrics: metrics_drain,
    })
}

fn serve_http(
    tasks: &Tasks,
    name: &'static str,
    listener: Listener,
    door: Door,
    watch: Watch,
    options: serve::Options,
    log: &Log,
) {
    let service = move |socket: &Socket| {
        let peer = match socket {
            Socket::Tcp(stream) => stream.peer_addr().ok().map(plain),
            Socket::Unix(_) => None,
        };
        door.service(peer)
    };
    serve_service(tasks, name, listener, watch, options, log, service);
}

/// As people know it: a socket for both families shows an IPv4 peer as `::ffff:192.0.2.1`.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn serve_service<M, S, B>(
    tasks: &Tasks,
    name: &'static str,
    listener: Listener,
    watch: Watch,
    options: serve::Options,
    log: &Log,
    service: M,
) where
    M: Fn(&Socket) -> S + Clone + Send + 'static,
    S: hyper::service::Service<http::Request<hyper::body::Incoming>, Response = http::Response<B>>
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if let Some(address) = listener.address() {
        log.info(format_args!("{name} is running on {address}"));
    }
    let (spawner, log): (Spawner, Log) = (tasks.spawner(), log.clone());
    // It ends only when it is drained, and then the sidecar ends anyway.
    tasks.spawn(name, OnExit::Log, async move {
        serve::serve(listener, service, watch, options, &spawner, &log).await;
    });
}

impl Serving {
    /// Waits for the app, then lets events flow. The receiver tells the app's health, when it is probed.
    async fn await_app(&self, config: &Config, log: &Log, tasks: &Tasks) -> Option<watch::Receiver<bool>> {
        let mut healthy = None;
        if let (Some(app), Some(channel)) = (&config.app, &self.assembled.app) {
            app_watch::until_listening(app, log).await;
            if let Some(health) = app.health {
                let sender = self.assembled.healthy.clone();
                let receiver = sender.subscribe();
                tasks.spawn(
                    "app health",
                    OnExit::Log,
                    app_watch::probe(channel.clone(), health, log.scope("dapr.apphealth"), sender),
                );
                healthy = Some(receiver);
            }
        }
        if healthy.is_none() {
            self.ask_app(config, log).await;
            self.assembled.pubsub.resume();
            self.assembled.bindings.resume();
            self.assembled.pubsub.begun().await;
            self.assembled.bindings.begun().await;
        }
        healthy
    }

    /// Subscriptions and input bindings follow the app's health. Never returns while there is something to follow.
    async fn follow_health(&self, config: &Config, log: &Log, healthy: Option<watch::Receiver<bool>>) {
        if let Some(mut healthy) = healthy {
            let mut asked = false;
            loop {
                if *healthy.borrow_and_update() {
                    if !std::mem::replace(&mut asked, true) {
                        self.ask_app(config, log).await;
                    }
                    self.assembled.pubsub.resume();
                    self.assembled.bindings.resume();
                } else {
                    self.assembled.pubsub.pause();
                    self.assembled.bindings.pause();
                }
                if healthy.changed().await.is_err() {
                    break;
                }
            }
        }
        std::future::pending().await
    }

    async fn ask_app(&self, config: &Config, log: &Log) {
        if let Some(app) = &self.assembled.app {
            app_watch::ask(&**app, config.skip_configuration, log).await;
        }
    }

    /// Stops polling brokers → (block) → drains the doors → settles what is held → closes components → flushes telemetry.
    async fn stop(
        self,
        end: End,
        config: &Config,
        log: &Log,
        tasks: &Tasks,
        healthy: Option<watch::Receiver<bool>>,
    ) -> End {
        if end == End::Forced {
            log.info("Force shutdown requested, exiting immediately without graceful shutdown");
            tokio::time::sleep(FORCE_DELAY).await;
            return End::Forced;
        }
        // From here on health checks fail, so that nobody is sent here any more.
        let _stopping = self.ready.part("shutdown");
        if let (Some(block), false) = (config.block, end == End::Reload) {
            self.block(block, log, healthy).await;
        }
        log.info(format_args!(
            "Dapr is shutting down; waiting at most {:?} for what is under way",
            config.graceful
        ));
        let graceful = async {
            // At most half of the time, so that a hanging app leaves the rest for the doors.
            let patience = config.graceful / 2;
            tokio::join!(
                self.assembled.pubsub.stop(patience),
                self.assembled.bindings.stop(patience)
            );
            self.doors.drain.fire();
            self.doors.drain.drained().await;
            self.assembled.names.close().await;
            self.assembled.components.close_all().await;
            self.pump_stop.fire();
            self.pump_stop.drained().await;
            self.doors.metrics.fire();
            self.doors.metrics.drained().await;
        };
        let in_time = tokio::time::timeout(config.graceful, graceful).await.is_ok();
        tasks.abort();
        if in_time { end } else { End::TimedOut }
    }

    /// Goes on serving after the request to stop, without taking events in.
    async fn block(&self, block: Duration, log: &Log, healthy: Option<watch::Receiver<bool>>) {
        self.assembled.pubsub.pause();
        self.assembled.bindings.pause();
        log.info(format_args!(
            "Blocking graceful shutdown for {} or until app reports unhealthy...",
            outrigger_resources::go::format_duration(block)
        ));
        let unhealthy = async {
            match healthy {
                Some(mut healthy) => {
                    let _closed = healthy.wait_for(|healthy| !healthy).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tokio::time::sleep(block) => log.info("Block shutdown period expired, entering shutdown..."),
            () = unhealthy => log.info("App reported unhealthy, entering shutdown..."),
        }
    }
}
