//! Registration through the kubelet's plugin watcher: it finds our socket in its registry folder, asks who we are, and
//! says whether it took us. A kubelet that restarts finds it again, by itself.

use plasma_proto::{
    deviceplugin::VERSION,
    pluginregistration::{
        DEVICE_PLUGIN, InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse,
        registration_server::{Registration, RegistrationServer},
    },
};
use tokio::sync::watch;
use tokio_stream::{StreamExt as _, wrappers::UnixListenerStream};
use tonic::{Request, Response, Status, transport::Server};

use super::desk::{Desk, Offer, bind, run};
use crate::authority::Mended;

/// What the kubelet said last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing yet.
    Nothing,
    /// It took us, for the so-manieth time.
    Taken(u64),
    /// It didn't, and why.
    Refused(String),
}

/// A socket that waits to be found, or was.
pub(super) struct Watched {
    pub(super) offer: Offer,
    pub(super) told: watch::Receiver<Told>,
}

impl Watched {
    /// Puts a fresh socket into the registry folder and serves it.
    ///
    /// # Errors
    /// In words: there can be no socket there.
    pub(super) fn offer(desk: &Desk) -> Result<Self, String> {
        let folder = &desk.kubelet.args.plugins_registry_dir;
        let (tell, told) = watch::channel(Told::Nothing);
        let registrar = Registrar { resource: desk.resource.clone(), tell };
        let (listener, file) = bind(folder)?;
        let (service, offer) = desk.service(file);
        // The kubelet dials a registration socket under an authority that no server takes as it is.
        let incoming = UnixListenerStream::new(listener).map(|connection| connection.map(Mended::new));
        let serve = Server::builder()
            .add_service(RegistrationServer::new(registrar))
            .add_service(service)
            .serve_with_incoming_shutdown(incoming, offer.stop.clone().cancelled_owned());
        run(serve);
        Ok(Self { offer, told })
    }
}

struct Registrar {
    resource: String,
    tell: watch::Sender<Told>,
}

#[tonic::async_trait]
impl Registration for Registrar {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: DEVICE_PLUGIN.to_owned(),
            name: self.resource.clone(),
            // This socket serves the devices, too.
            endpoint: String::new(),
            supported_versions: vec![VERSION.to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        status: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let status = status.into_inner();
        self.tell.send_modify(|told| {
            *told = match told {
                _ if !status.plugin_registered => Told::Refused(status.error.clone()),
                Told::Taken(times) => Told::Taken(*times + 1),
                Told::Nothing | Told::Refused(_) => Told::Taken(1),
            }
        });
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
