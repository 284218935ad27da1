//! Registration the old way: a call to the kubelet's own socket. For kubelets that don't look into the registry folder.

use std::path::Path;

use plasma_proto::deviceplugin::{RegisterRequest, VERSION, registration_client::RegistrationClient};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use super::{
    Kubelet,
    desk::{ANSWER, Desk, Offer, bind, run},
};
use crate::{service::options, socket};

/// One registration, good as long as the kubelet that took it.
pub(super) struct Classic {
    pub(super) offer: Offer,
    kubelet_was: (u64, i64, i64),
}

impl Classic {
    /// Serves on a fresh socket and registers it.
    ///
    /// # Errors
    /// In words: the kubelet isn't there, or refuses.
    pub(super) async fn register(desk: &Desk) -> Result<Self, String> {
        let folder = &desk.kubelet.args.device_plugin_dir;
        let socket = folder.join("kubelet.sock");
        let kubelet_was =
            socket::identity(&socket).map_err(|fault| format!("{}: {fault}", socket.display()))?;
        let (listener, file) = bind(folder)?;
        let (service, offer) = desk.service(file);
        let serve = Server::builder().add_service(service).serve_with_incoming_shutdown(
            UnixListenerStream::new(listener),
            offer.stop.clone().cancelled_owned(),
        );
        run(serve);
        call(&socket, &offer.file.name(), &desk.resource).await?;
        Ok(Self { offer, kubelet_was })
    }

    /// Whether the kubelet that took the registration still has its socket.
    pub(super) fn is_with_the_same_kubelet(&self, kubelet: &Kubelet) -> bool {
        let socket = kubelet.args.device_plugin_dir.join("kubelet.sock");
        socket::identity(&socket).is_ok_and(|now| now == self.kubelet_was)
    }
}

async fn call(kubelet: &Path, socket: &str, resource: &str) -> Result<(), String> {
    let channel = socket::dial(kubelet, Some(ANSWER)).await?;
    let request = RegisterRequest {
        version: VERSION.to_owned(),
        endpoint: socket.to_owned(),
        resource_name: resource.to_owned(),
        options: Some(options()),
    };
    let answer = RegistrationClient::new(channel).register(request).await;
    answer.map(drop).map_err(|status| format!("the kubelet refused {resource}: {}", status.message()))
}
