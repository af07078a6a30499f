//! Life of a hub in this process: lock, socket, idleness, shutdown.

use super::*;
use crate::client::{self, Client};
use crate::commit::tests::quiet;
use outrigger_daemon::tasks::Tasks;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

const SOON: Duration = Duration::from_secs(10);

struct Served {
    tasks: Tasks,
    stop: drain::Trigger,
    ended: oneshot::Receiver<Result<Ended>>,
}

async fn serve(config: &Config) -> Served {
    let hub = Hub::open(config.clone(), quiet()).unwrap();
    let (stop, watch) = drain::channel();
    let tasks = Tasks::new(&quiet(), stop.clone());
    let (tell, ended) = oneshot::channel();
    tasks.spawn("hub", OnExit::Log, async move {
        tell.send(hub.serve(watch).await).ok();
    });
    Served { tasks, stop, ended }
}

impl Served {
    async fn ended(self) -> Ended {
        let ended = timeout(SOON, self.ended)
            .await
            .expect("the hub does not end")
            .unwrap()
            .unwrap();
        self.tasks.join(SOON).await.unwrap();
        ended
    }
}

async fn connected(socket: &Path) -> Client {
    loop {
        match Client::connect(socket).await {
            Ok(client) => return client,
            Err(_) => sleep(Duration::from_millis(2)).await,
        }
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_has_one_hub_and_the_second_says_who_it_is() {
    let home = TempDir::new().unwrap();
    let config = Config::new(home.path().join("new/home"));
    let served = serve(&config).await;
    let refused = Hub::open(config.clone(), quiet()).err().unwrap().to_string();
    let pid = std::process::id().to_string();
    assert!(
        refused.contains(&pid) && refused.contains("outrigger down"),
        "{refused}"
    );
    let socket = config.socket().unwrap();
    let client = connected(&socket).await;
    let status = client.status().await.unwrap();
    assert_eq!(status.pid, u64::from(std::process::id()));
    assert_eq!((status.connections, status.fsync.as_str()), (1, "always"));
    // Nobody else may read or reach it.
    let folder = config.folder();
    assert_eq!([mode(&folder), mode(&folder.join("log"))], [0o700, 0o700]);
    for file in ["lock", "hub.sock", "kv.redb", "log/00000000000000000000.log"] {
        assert_eq!(mode(&folder.join(file)), 0o600, "{file}");
    }
    client.shutdown().await.unwrap();
    assert_eq!(served.ended().await, Ended::Asked);
    assert!(client::gone(&config.home, SOON).await.unwrap());
    assert!(!socket.exists());
    // The folder is free again, and a signal ends it as well.
    let served = serve(&config).await;
    connected(&socket).await;
    served.stop.fire();
    assert_eq!(served.ended().await, Ended::Asked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_ends_when_idle_and_not_while_somebody_is_connected() {
    let home = TempDir::new().unwrap();
    let mut config = Config::new(home.path());
    config.idle_after = Duration::from_millis(100);
    let served = serve(&config).await;
    let client = connected(&config.socket().unwrap()).await;
    client.status().await.unwrap();
    sleep(Duration::from_millis(500)).await;
    client.status().await.unwrap();
    drop(client);
    assert_eq!(served.ended().await, Ended::Idle);
    assert!(!config.socket().unwrap().exists());
    assert!(!config.folder().join("hub.ending").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_a_dead_hub_left_is_replaced_and_a_live_one_is_not() {
    let home = TempDir::new().unwrap();
    let config = Config::new(home.path());
    crate::folder::create(&config.folder()).unwrap();
    let socket = config.socket().unwrap();
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let served = serve(&config).await;
    connected(&socket).await;
    // Another home that is told to use the same socket.
    let mut other = Config::new(home.path().join("other"));
    other.socket = Some(socket);
    let hub = Hub::open(other, quiet()).unwrap();
    let (_stop, watch) = drain::channel();
    let refused = hub.serve(watch).await.err().unwrap().to_string();
    assert!(refused.contains("hub.sock"), "{refused}");
    served.stop.fire();
    served.ended().await;
}

#[test]
fn paths_and_settings_that_cannot_work_are_refused_with_what_to_do() {
    let long = PathBuf::from("/tmp").join("x".repeat(120));
    let error = crate::config::socket(&long).err().unwrap().to_string();
    assert!(error.contains("107") && error.contains("--home"), "{error}");
    let home = TempDir::new().unwrap();
    let adapts: [fn(&mut Config); 5] = [
        |config| config.segment_bytes = 1_000,
        |config| config.retention.max_bytes = config.segment_bytes,
        |config| config.limits.message_bytes = 0,
        |config| config.limits.queue_bytes = 10,
        |config| config.limits.group_messages = 0,
    ];
    for (index, adapt) in adapts.into_iter().enumerate() {
        let mut config = Config::new(home.path());
        adapt(&mut config);
        assert!(
            matches!(Hub::open(config, quiet()), Err(Error::Config(_))),
            "{index}"
        );
    }
    std::fs::write(home.path().join("hub"), "a file").unwrap();
    assert!(matches!(
        Hub::open(Config::new(home.path()), quiet()),
        Err(Error::Io { .. })
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_interval_policy_syncs_later_and_loses_nothing_when_it_ends() {
    let home = TempDir::new().unwrap();
    let mut config = Config::new(home.path());
    config.fsync = Fsync::Interval(Duration::from_millis(20));
    for round in 0..2 {
        let folder = config.folder();
        crate::folder::create(&folder.join("log")).unwrap();
        let volume = Arc::new(Folder(folder.join("log")));
        let store = open_store(&config, &quiet(), volume, &folder.join("kv.redb"), None).unwrap();
        assert_eq!(
            store.topics.all().first().map_or(1, |topic| topic.range().1),
            round * 10 + 1
        );
        for _ in 0..10 {
            let message = crate::commit::Outgoing {
                topic: "t".to_owned(),
                ..Default::default()
            };
            store
                .commit
                .publish(vec![message])
                .await
                .unwrap()
                .remove(0)
                .unwrap();
        }
        drop(store.commit);
        store.writer.join().unwrap();
    }
}
