//! A loopback port on the host that leads into the node's network namespace.
//!
//! The listener is opened on the host, then the process moves into the node's namespace and dials from there:
//! no interface, route or rule is made on the host.

use std::{
    fs::{self, File},
    io,
    net::{Shutdown, TcpListener, TcpStream},
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::layout::Layout;

/// Starts a forwarder as a process of its own.
pub(crate) fn start(layout: &Layout, listen: &str, target: &str) -> Result<()> {
    drop(
        TcpListener::bind(listen)
            .with_context(|| format!("{listen} on this host is taken by another program"))?,
    );
    let log = layout.logs().join("forward.log");
    let log = File::options().create(true).append(true).open(&log).context("open the forwarder's log")?;
    Command::new(layout.program())
        .args(["cluster", "forward", listen, target])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0)
        .spawn()
        .map(drop)
        .context("start the forwarder")
}

/// The forwarder itself: runs until it is ended.
pub(crate) fn run(layout: &Layout, listen: &str, target: &str) -> Result<()> {
    let listener = TcpListener::bind(listen).with_context(|| format!("listen on {listen}"))?;
    let pid = fs::read_to_string(layout.init_pid()).context("find the node's first process")?;
    let namespace = format!("/proc/{}/ns/net", pid.trim());
    let namespace = File::open(&namespace).with_context(|| format!("open {namespace}"))?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .context("enter the node's network")?;
    drop(namespace);
    for connection in listener.incoming() {
        let target = target.to_owned();
        // Threads are born into the namespace of the thread that starts them.
        thread::spawn(move || {
            if let Err(fault) = connection.and_then(|client| carry(client, &target)) {
                eprintln!("{target}: {fault}");
            }
        });
    }
    Ok(())
}

fn carry(client: TcpStream, target: &str) -> io::Result<()> {
    let server = TcpStream::connect(target)?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let upwards = thread::spawn(move || {
        let carried = io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
        carried
    });
    let (mut from_server, mut to_client) = (server, client);
    let carried = io::copy(&mut from_server, &mut to_client);
    let _ = to_client.shutdown(Shutdown::Both);
    let _ = upwards.join();
    carried.map(drop)
}
