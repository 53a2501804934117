//! MySQL in a container, by testcontainers.
//!
//! It promises: an image that is here is never pulled; whether an image that is not here can be had
//! is known within ten seconds; the port is open on this machine only, on its loopback and on the
//! engine's bridge; the container is gone at the end, also after SIGKILL (the reaper calls `docker rm`).

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::TcpListener;
use std::pin::pin;
use std::time::Duration;

use futures_core::Stream as _;
use testcontainers::bollard::Docker;
use testcontainers::bollard::errors::Error as EngineError;
use testcontainers::bollard::models::{HostConfig, PortBinding};
use testcontainers::bollard::query_parameters::CreateImageOptionsBuilder;
use testcontainers::core::client::docker_client_instance;
use testcontainers::core::{IntoContainerPort as _, Mount};
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{ContainerAsync, GenericImage, ImageExt as _};
use tokio::time::{Instant, timeout, timeout_at};

use super::local::find;
use super::mysql::{Account, Mysql};
use crate::environment::random;
use crate::environment::reaper::{Reaper, Watch};

/// By then it is known whether there is an engine and an image.
const DECISION_LIMIT: Duration = Duration::from_secs(10);
/// An engine of this machine answers in milliseconds; one behind a firewall never.
const ENGINE_LIMIT: Duration = Duration::from_secs(3);
/// Layers are coming in: that may take long on a slow line.
const PULL_LIMIT: Duration = Duration::from_mins(15);
/// From created to logged in; official images make their data folder first.
const START_LIMIT: Duration = Duration::from_mins(2);
const PORT: u16 = 3306;

/// A running container. Dropping it removes it.
#[derive(Debug)]
pub struct Container {
    /// Always there until the end.
    running: Option<Box<ContainerAsync<GenericImage>>>,
    /// `None`: there is no docker command.
    watch: Option<Watch>,
    host: String,
    port: u16,
    root: Account,
}

impl Container {
    /// Starts the image and waits for the first login.
    pub async fn start(image: &str, say: &(dyn Fn(String) + Sync)) -> Result<Self, String> {
        let deadline = Instant::now() + DECISION_LIMIT;
        let engine = timeout(ENGINE_LIMIT, docker_client_instance()).await;
        let engine = engine.map_err(|_| "no engine answers".to_owned())?;
        let engine =
            engine.map_err(|error| format!("no engine answers: {}", super::causes(&error)))?;
        let volumes = if let Some(volumes) = inspect(&engine, image).await? {
            volumes
        } else {
            pull(&engine, image, deadline, say).await?;
            inspect(&engine, image).await?.unwrap_or_default()
        };
        // Where the image makes its data folder at start, memory is faster; one that comes with data
        // must not be covered up.
        let in_memory = volumes.iter().any(|volume| volume == "/var/lib/mysql");

        let name = format!("vmailspec-{}", random::hex(6).map_err(|e| e.to_string())?);
        // Before the container: there is no moment at which nobody would remove it.
        let watch = if let Some(docker) = find("docker") {
            let watch = Reaper::watch_container(&docker, &name);
            Some(watch.map_err(|error| format!("/bin/sh: {error}"))?)
        } else {
            say(format!(
                "no docker command here: if this run is killed, remove the container {name} by hand"
            ));
            None
        };
        let root = Account::new("root")?;
        let container = request(image, &name, &root, in_memory).start().await;
        let container = container.map_err(|error| super::causes(&error))?;
        let host = container
            .get_host()
            .await
            .map_err(|error| super::causes(&error))?
            .to_string();
        let host = if host == "localhost" {
            "127.0.0.1".to_owned()
        } else {
            host
        };
        let port = container
            .get_host_port_ipv4(PORT)
            .await
            .map_err(|error| super::causes(&error))?;
        let (host, port) = match bridged(&engine, container.id()).await {
            Some(address) => (address, PORT),
            None => (host, port),
        };
        let started = Self {
            running: Some(Box::new(container)),
            watch,
            host,
            port,
            root,
        };
        let mysql = started.mysql();
        let ready = mysql.ready(START_LIMIT, || started.alive()).await;
        mysql.disconnect().await;
        ready.map_err(|why| format!("the image {image}: {why}"))?;
        Ok(started)
    }

    async fn alive(&self) -> Result<(), String> {
        let Some(container) = &self.running else {
            return Ok(());
        };
        if container.is_running().await.unwrap_or(true) {
            return Ok(());
        }
        let said = container.stderr_to_vec().await.unwrap_or_default();
        let said = String::from_utf8_lossy(&said).into_owned();
        let lines: Vec<&str> = said.lines().collect();
        Err(format!(
            "the container ended: {}",
            lines[lines.len().saturating_sub(3)..].join(" | ")
        ))
    }

    /// As root.
    #[must_use]
    pub fn mysql(&self) -> Mysql {
        Mysql::new(&self.host, self.port, &self.root, None)
    }

    /// `host:port`
    #[must_use]
    pub fn host(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Removes it.
    pub async fn stop(mut self) {
        let Some(container) = self.running.take() else {
            return;
        };
        // Where that fails the watch, dropped with us, tries by the docker command.
        if container.rm().await.is_ok()
            && let Some(watch) = self.watch.take()
        {
            watch.release();
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Some(container) = self.running.take() {
            // testcontainers removes it by a request, which needs a runtime; without one it would
            // panic. The watch, dropped after this, removes it all the same.
            if self.watch.is_some() || tokio::runtime::Handle::try_current().is_err() {
                std::mem::forget(container);
            }
        }
    }
}

fn request(
    image: &str,
    name: &str,
    root: &Account,
    in_memory: bool,
) -> testcontainers::ContainerRequest<GenericImage> {
    // The tag is behind the last colon, unless that is a registry's port.
    let (repository, tag) = match image.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (image, "latest"),
    };
    // The engine of another machine (a CI service) has another loopback.
    let remote = std::env::var("DOCKER_HOST").is_ok_and(|host| is_remote(&host));
    let address = if remote { "0.0.0.0" } else { "127.0.0.1" };
    let bind = move |host: &mut HostConfig| {
        let binding = PortBinding {
            host_ip: Some(address.to_owned()),
            host_port: Some(String::new()),
        };
        host.port_bindings = Some(HashMap::from([(
            format!("{PORT}/tcp"),
            Some(vec![binding]),
        )]));
        host.publish_all_ports = Some(false);
    };
    let request = GenericImage::new(repository, tag)
        .with_exposed_port(PORT.tcp())
        .with_env_var("MYSQL_ROOT_PASSWORD", &root.password)
        .with_container_name(name)
        .with_cmd([
            "--skip-log-bin",
            "--skip-name-resolve",
            "--innodb-flush-log-at-trx-commit=0",
            "--performance-schema=OFF",
            super::CONNECTIONS,
        ])
        .with_host_config_modifier(bind)
        .with_startup_timeout(START_LIMIT);
    if in_memory {
        request.with_mount(Mount::tmpfs_mount("/var/lib/mysql"))
    } else {
        request
    }
}

/// The container's own address, where its bridge is this machine's: the published port is served by a
/// process of the engine's, which copies every octet and takes its share of the processors.
async fn bridged(engine: &Docker, container: &str) -> Option<String> {
    let inspected = engine.inspect_container(container, None);
    let facts = timeout(ENGINE_LIMIT, inspected).await.ok()?.ok()?;
    let network = facts.network_settings?.networks?.into_values().next()?;
    let address = network.ip_address.filter(|address| !address.is_empty())?;
    // Only this machine can listen at its end of the bridge.
    TcpListener::bind((network.gateway?, 0)).ok()?;
    Some(address)
}

fn is_remote(host: &str) -> bool {
    let Some((_, place)) = host.split_once("tcp://") else {
        return false;
    };
    !["127.", "localhost", "[::1]"]
        .iter()
        .any(|local| place.starts_with(local))
}

/// The image's volumes; `None`: it is not here. An error: no engine.
async fn inspect(engine: &Docker, image: &str) -> Result<Option<Vec<String>>, String> {
    match timeout(ENGINE_LIMIT, engine.inspect_image(image)).await {
        Ok(Ok(facts)) => Ok(Some(
            facts
                .config
                .and_then(|config| config.volumes)
                .unwrap_or_default(),
        )),
        Ok(Err(EngineError::DockerResponseServerError {
            status_code: 404, ..
        })) => Ok(None),
        Ok(Err(error)) => Err(format!("no engine answers: {}", super::causes(&error))),
        Err(_) => Err(format!(
            "no engine answers within {} s",
            ENGINE_LIMIT.as_secs()
        )),
    }
}

/// Pulls the image. Before the deadline layers have to be coming in; then they may take their time.
async fn pull(
    engine: &Docker,
    image: &str,
    deadline: Instant,
    say: &(dyn Fn(String) + Sync),
) -> Result<(), String> {
    let not_here = |why: &str| {
        format!(
            "the image {image} is not here and cannot be pulled ({why}); name one that is here by --database-image"
        )
    };
    let options = CreateImageOptionsBuilder::default()
        .from_image(image)
        .build();
    let mut progress = pin!(engine.create_image(Some(options), None, None));
    let mut coming = false;
    let mut limit = deadline;
    loop {
        match timeout_at(
            limit,
            poll_fn(|context| progress.as_mut().poll_next(context)),
        )
        .await
        {
            Err(_) if coming => {
                return Err(not_here(&format!("more than {} s", PULL_LIMIT.as_secs())));
            }
            Err(_) => {
                return Err(not_here(&format!(
                    "nothing came within {} s",
                    DECISION_LIMIT.as_secs()
                )));
            }
            Ok(None) => return Ok(()),
            Ok(Some(Err(error))) => return Err(not_here(&super::causes(&error))),
            Ok(Some(Ok(step))) => {
                if let Some(message) = step.error_detail.and_then(|detail| detail.message) {
                    return Err(not_here(&message));
                }
                let status = step.status.unwrap_or_default();
                if !coming
                    && (status.starts_with("Pulling fs layer") || status.starts_with("Downloading"))
                {
                    coming = true;
                    limit = Instant::now() + PULL_LIMIT;
                    say(format!("pulling the image {image}"));
                }
            }
        }
    }
}
