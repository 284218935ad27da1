//! A record says which device was held, and as what, whatever has become of it since.

use super::{
    world::{World, gpu},
    *,
};

#[test]
fn two_shares_of_one_gpu_in_one_pod_are_two_devices_that_each_have_their_own_records() {
    let mut world = World::new(&[4]);
    world.hold("a", 0, 0, 1_000_000);
    world.hold("a", 0, 2, 1_000_000);
    world.pass(10_000, 100);
    world.end("a", 1_010_000);
    world.close();
    let told = |record: &&Record| (record.id.clone(), record.uuid.clone(), record.milli_gpu, record.last);
    let told: Vec<_> = world.of("a").iter().map(told).collect();
    let share = |number| (format!("{}::{number}", gpu(0)), gpu(0), 250, true);
    assert_eq!(told, [share(0), share(2)]);
    let idle = world.records.iter().find(|record| record.holder.is_none()).unwrap();
    assert_eq!((&idle.id, &idle.instance_product), (&gpu(0), &String::new()));
    world.check_energy().unwrap();
}

#[test]
fn an_instance_that_is_gone_before_its_pods_end_is_told_stays_what_it_was_in_its_record() {
    let mut world = World::new(&[1]);
    let product = "H100-MIG-3g.40gb".to_owned();
    world.parts[0].push(Part { milli_gpu: 428, product: product.clone(), ..Part::whole("MIG-a") });
    world.hold("a", 0, 1, 1_000_000);
    world.pass(10_000, 100);
    // Its GPU is divided otherwise, and this program begins anew.
    world.parts[0] = vec![Part::whole(&gpu(0)), Part { milli_gpu: 142, ..Part::whole("MIG-b") }];
    world.pass(4_000, 100);
    world.restart();
    world.end("a", 1_012_000);
    world.close();
    let [of_a] = world.of("a")[..] else { panic!("one record") };
    assert_eq!((&*of_a.id, &of_a.instance_product, of_a.milli_gpu), ("MIG-a", &product, 428));
    assert_eq!((&*of_a.product, &of_a.gpu_uuid), ("H100", &gpu(0)));
}

#[test]
fn what_an_older_version_wrote_down_is_read() {
    let record = r#"{"sequence":1,"uuid":"GPU-0","gpuUuid":"GPU-0","product":"H100","milliGpu":1000,"startMs":1,"endMs":2,
        "healthyMs":1,"timeQuality":"exact","last":true,"podIsOver":true,"simulated":false}"#;
    let record: Record = serde_json::from_str(record).unwrap();
    assert_eq!((&*record.id, &*record.instance_product), ("", ""));
    let part: Part = serde_json::from_str(r#"{"id":"MIG-a","uuid":"MIG-a","milli_gpu":142}"#).unwrap();
    assert_eq!(part, Part { milli_gpu: 142, ..Part::whole("MIG-a") });
}
