//! What the kubelet is answered while what containers get is written anew.

use plasma_device_plugin_core::{Gpu, HandOver, HealthRules, Inventory, Look, Needs, Scan, Seen, Signs};
use plasma_proto::deviceplugin::{HEALTHY, UNHEALTHY};
use plasma_runtime::prometheus::Registry;
use tokio_stream::StreamExt as _;

use super::*;
use crate::inventory::Publisher;

/// One GPU, which has that minor number.
fn look(minor: u32) -> Scan {
    let device_node = Some(format!("/dev/nvidia{minor}"));
    let gpu = Gpu { uuid: "GPU-0".to_owned(), device_node, ..Gpu::default() };
    Scan::Looked(Look { gpus: vec![Seen::Answered { gpu, signs: Signs::default() }], ..Look::default() })
}

/// A service for a GPU whose minor number is 0, as the runtime was told; who publishes, and who is told of grants.
fn service() -> (Service, Publisher, mpsc::UnboundedReceiver<(String, Instant)>) {
    let mut inventory = Inventory::new(HealthRules::default());
    inventory.observe(look(0));
    let (publish, observed) = Publisher::for_tests(Observed::for_tests(inventory));
    publish.hand_over(written(&observed));
    let (granted, grants) = mpsc::unbounded_channel();
    let service = Service {
        resource: plasma_api::names::GPU_RESOURCE.to_owned(),
        observed,
        metrics: KubeletMetrics::register(&Registry::new(), false).unwrap(),
        strategy: Strategy::CdiCri,
        preferences: Preferences::default(),
        listeners: Listeners::default(),
        granted,
        stop: CancellationToken::new(),
    };
    (service, publish, grants)
}

/// What there is now is written.
fn written(observed: &watch::Receiver<Observed>) -> HandOver {
    HandOver::Ready(Needs::of(observed.borrow().seen()))
}

async fn allocate(service: &Service) -> Result<AllocateResponse, Status> {
    let request = ContainerAllocateRequest { devices_ids: vec!["GPU-0".to_owned()] };
    let request = AllocateRequest { container_requests: vec![request] };
    service.allocate(Request::new(request)).await.map(Response::into_inner)
}

/// How the GPU is in the next list that the kubelet is told.
async fn health(list: &mut <Service as DevicePlugin>::ListAndWatchStream) -> String {
    let next = tokio::time::timeout(Duration::from_secs(10), list.next()).await.expect("a list comes");
    next.unwrap().unwrap().devices[0].health.clone()
}

#[tokio::test]
async fn a_gpu_is_given_out_only_when_what_was_written_is_what_it_is_now() {
    let (service, publish, mut grants) = service();
    let mut list = service.list_and_watch(Request::new(Empty {})).await.unwrap().into_inner();
    assert_eq!(health(&mut list).await, HEALTHY);
    assert!(allocate(&service).await.is_ok());
    assert_eq!(grants.recv().await.unwrap().0, "GPU-0");
    // The driver was loaded anew, and numbers its GPUs otherwise.
    publish.look(look(1));
    assert_eq!(health(&mut list).await, UNHEALTHY, "the kubelet gives it to nobody meanwhile");
    let asked = Instant::now();
    let refused = allocate(&service).await.unwrap_err();
    assert!(
        asked.elapsed() >= WRITTEN_WITHIN && asked.elapsed() < 2 * WRITTEN_WITHIN,
        "{:?}",
        asked.elapsed()
    );
    assert!(refused.message().contains("isn't written anew yet"), "{}", refused.message());
    assert!(grants.try_recv().is_err(), "nothing was granted");
    let believed = service.observed.borrow().believed();
    assert!(believed.gpus()[0].1.is_offered(), "a moment later it is: no fault that anybody is told of");
}

#[tokio::test]
async fn the_kubelet_waits_for_what_is_being_written() {
    let (service, publish, _grants) = service();
    let mut list = service.list_and_watch(Request::new(Empty {})).await.unwrap().into_inner();
    assert_eq!(health(&mut list).await, HEALTHY);
    publish.look(look(1));
    let writes = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        publish.hand_over(written(&service.observed));
    };
    let (granted, ()) = tokio::join!(allocate(&service), writes);
    assert_eq!(granted.unwrap().container_responses[0].cdi_devices.len(), 1);
    let mut told = health(&mut list).await;
    if told == UNHEALTHY {
        told = health(&mut list).await;
    }
    assert_eq!(told, HEALTHY);
}
