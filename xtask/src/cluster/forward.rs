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

/// Starts a forwarder as a process of its own, and notes its id in the state folder.
pub(crate) fn start(layout: &Layout, listen: &str, target: &str) -> Result<()> {
    drop(
        TcpListener::bind(listen)
            .with_context(|| format!("{listen} on this host is taken by another program"))?,
    );
    let itself = std::env::current_exe().context("find this program")?;
    let log = layout.logs().join("forward.log");
    let log = File::options().create(true).append(true).open(&log).context("open the forwarder's log")?;
    let child = Command::new(itself)
        .args(["cluster", "forward", listen, target])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0)
        .spawn()
        .context("start the forwarder")?;
    let note = layout.state.join(format!("forward-{}.pid", child.id()));
    fs::write(&note, child.id().to_string()).with_context(|| format!("write {}", note.display()))
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

/// Ends the forwarders whose ids the state folder notes.
pub(crate) fn stop_all(layout: &Layout) {
    for entry in fs::read_dir(&layout.state).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix("forward-").and_then(|rest| rest.strip_suffix(".pid")) else {
            continue;
        };
        // The id may belong to somebody else by now: only a process that calls itself a forwarder is ended.
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if command.contains("cluster\0forward")
            && let Some(pid) = pid.parse().ok().and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = fs::remove_file(entry.path());
    }
}
