//! From a record on the wire to one that can't be wrong in itself.

use plasma_proto::meter::{Device, Quality, Record};
use plasma_settlement_core::{Kind, Line, Told, WHOLE};
use plasma_types::{Duration, UnixMillis};

/// A UUID of NVML's is shorter, and so is the kubelet's id that is made of it.
const LONGEST_UUID: usize = 64;
/// A model's name is a label's value.
const LONGEST_MODEL: usize = 63;

/// What a record says, and what is wrong with it. A holder's end counts even where its span can't be used: its pod would
/// wait for ever.
pub(crate) fn parse(record: Record) -> (Line, Option<String>) {
    let Some(holder) = &record.holder else { return (Line::Nobody, None) };
    let Ok(pod) = holder.pod_uid.parse() else {
        let (uid, name) = (&holder.pod_uid, &holder.pod);
        return (Line::Nobody, Some(format!("pod {name:?}: its UID {uid:?} is none")));
    };
    let over = holder.pod_is_over;
    match told(&record, over) {
        Ok(told) => (Line::Of { pod, told: Some(told), over }, None),
        Err(why) => (Line::Of { pod, told: None, over }, Some(format!("pod {pod}: {why}"))),
    }
}

fn told(record: &Record, over: bool) -> Result<Told, String> {
    let device = record.device.as_ref().ok_or("it names no device")?;
    let milli = size(device)?;
    let (start, end) = (UnixMillis(record.start_ms), UnixMillis(record.end_ms));
    if end < start {
        return Err(format!("its span ends at {} ms, before it begins at {} ms", end.0, start.0));
    }
    if record.healthy_ms > end.since(start).0 {
        let (healthy, span) = (record.healthy_ms, end.since(start).0);
        return Err(format!("it was healthy for {healthy} ms of {span} ms"));
    }
    Ok(Told {
        id: id(device)?,
        device: uuid(&device.uuid)?,
        board: uuid(&device.gpu_uuid)?,
        milli,
        kind: kind(device)?,
        start,
        end,
        healthy: Duration(record.healthy_ms),
        last: record.last || over,
        simulated: record.simulated,
        exact: record.time_quality() == Quality::Exact,
    })
}

fn size(device: &Device) -> Result<u16, String> {
    let milli = u16::try_from(device.milli_gpu).ok().filter(|milli| (1..=WHOLE).contains(milli));
    milli.ok_or_else(|| format!("its device is {} thousandths of a GPU", device.milli_gpu))
}

/// Shares of one device have its UUID and a number. A plugin that tells no ids tells one device.
fn id(device: &Device) -> Result<String, String> {
    let Device { id, uuid, .. } = device;
    let is_share = || id.strip_prefix(uuid.as_str()).is_some_and(|share| share.starts_with("::"));
    match () {
        () if id.is_empty() || id == uuid => self::uuid(uuid),
        () if is_share() => self::uuid(id),
        () => Err(format!("{:?} is no id of device {:?}", shortened(id), shortened(uuid))),
    }
}

/// What it was, where the node tells that: a plugin that tells no ids leaves the models of parts to be looked up.
fn kind(device: &Device) -> Result<Option<Kind>, String> {
    if device.id.is_empty() || device.product.is_empty() {
        return Ok(None);
    }
    let is_all_of_a_part = !device.instance_product.is_empty() && device.id == device.uuid;
    let part = is_all_of_a_part.then(|| model(&device.instance_product)).transpose()?;
    Ok(Some(Kind { board: model(&device.product)?, part }))
}

fn uuid(text: &str) -> Result<String, String> {
    name(text, LONGEST_UUID).ok_or_else(|| format!("{:?} is no UUID of a GPU", shortened(text)))
}

fn model(text: &str) -> Result<String, String> {
    name(text, LONGEST_MODEL).ok_or_else(|| format!("{:?} is no model of a GPU", shortened(text)))
}

fn name(text: &str, longest: usize) -> Option<String> {
    let is_one = (1..=longest).contains(&text.len()) && text.chars().all(|letter| letter.is_ascii_graphic());
    is_one.then(|| text.to_owned())
}

fn shortened(text: &str) -> String {
    text.chars().take(LONGEST_UUID).collect()
}

#[cfg(test)]
mod tests {
    use plasma_proto::meter::Holder;
    use plasma_types::PodUid;

    use super::*;

    const UID: &str = "05050505-0505-0505-0505-050505050505";

    fn record() -> Record {
        let uuid = "GPU-00000000-0000-0000-0000-000000000000".to_owned();
        Record {
            sequence: 1,
            device: Some(Device {
                uuid: uuid.clone(),
                gpu_uuid: uuid,
                product: "H100".to_owned(),
                milli_gpu: 1000,
                ..Device::default()
            }),
            holder: Some(Holder { pod_uid: UID.to_owned(), pod_is_over: true, ..Holder::default() }),
            start_ms: 1000,
            end_ms: 3000,
            healthy_ms: 1500,
            ..Record::default()
        }
    }

    #[test]
    fn a_record_of_a_pod_is_its_time_and_its_end() {
        let (line, wrong) = parse(record());
        let Line::Of { pod, told: Some(told), over: true } = line else { panic!("{line:?}") };
        assert_eq!((pod, wrong), (PodUid([5; 16]), None));
        assert_eq!(
            (told.start, told.end, told.healthy),
            (UnixMillis(1000), UnixMillis(3000), Duration(1500))
        );
        assert!(told.last, "with the pod, its device is over");
    }

    #[test]
    fn a_record_says_which_share_it_was_and_what_the_device_was_then() {
        let told = |id: &str, instance_product: &str| {
            let mut record = record();
            if let Some(device) = &mut record.device {
                (device.id, device.instance_product) = (id.to_owned(), instance_product.to_owned());
            }
            let (Line::Of { told: Some(told), .. }, None) = parse(record) else { panic!("it is right") };
            (told.id, told.device, told.kind)
        };
        let uuid = "GPU-00000000-0000-0000-0000-000000000000".to_owned();
        let kind =
            |part: Option<&str>| Some(Kind { board: "H100".to_owned(), part: part.map(str::to_owned) });
        let share = format!("{uuid}::3");
        assert_eq!(told("", ""), (uuid.clone(), uuid.clone(), None), "of a plugin that tells no ids");
        assert_eq!(told(&uuid, ""), (uuid.clone(), uuid.clone(), kind(None)));
        assert_eq!(
            told(&uuid, "H100-MIG-1g.10gb"),
            (uuid.clone(), uuid.clone(), kind(Some("H100-MIG-1g.10gb")))
        );
        assert_eq!(
            told(&share, "H100-MIG-1g.10gb"),
            (share, uuid, kind(None)),
            "who shares a part hasn't got it"
        );
    }

    #[test]
    fn a_record_of_nobody_concerns_nobody() {
        assert_eq!(parse(Record { holder: None, ..record() }), (Line::Nobody, None));
    }

    #[test]
    fn what_is_absurd_bills_nothing_and_is_named_and_the_pods_end_still_counts() {
        let device = |change: fn(&mut Device)| {
            let mut record = record();
            record.device.iter_mut().for_each(change);
            record
        };
        for (record, says) in [
            (Record { end_ms: 999, ..record() }, "before it begins"),
            (Record { healthy_ms: 2001, ..record() }, "healthy for 2001 ms of 2000 ms"),
            (Record { start_ms: 0, end_ms: 0, healthy_ms: u64::MAX, ..record() }, "healthy for"),
            (Record { device: None, ..record() }, "no device"),
            (device(|device| device.milli_gpu = 0), "0 thousandths"),
            (device(|device| device.milli_gpu = u32::MAX), "4294967295 thousandths"),
            (device(|device| device.uuid = "\n".repeat(10_000)), "no UUID"),
            (device(|device| device.gpu_uuid = String::new()), "no UUID"),
            (device(|device| device.id = "GPU-1::0".to_owned()), "no id of device"),
            (device(|device| device.id = device.uuid.clone() + "0"), "no id of device"),
            (device(|device| device.id = device.uuid.clone() + "::" + &"0".repeat(10_000)), "no UUID"),
            (
                device(|device| (device.id, device.product) = (device.uuid.clone(), "H 100".to_owned())),
                "no model",
            ),
        ] {
            let (line, wrong) = parse(record);
            assert_eq!(line, Line::Of { pod: PodUid([5; 16]), told: None, over: true }, "{says}");
            let wrong = wrong.expect("words");
            assert!(wrong.contains(says) && wrong.len() < 300, "{wrong}");
        }
        let mut odd = record();
        odd.holder = Some(Holder { pod_uid: "../../etc".to_owned(), ..Holder::default() });
        let (line, wrong) = parse(odd);
        assert!(line == Line::Nobody && wrong.is_some_and(|wrong| wrong.contains("is none")));
    }
}
