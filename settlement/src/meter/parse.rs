//! From a record on the wire to one that can't be wrong in itself.

use plasma_proto::meter::{Device, Record};
use plasma_settlement_core::{Line, Told, WHOLE};
use plasma_types::{Duration, UnixMillis};

/// A UUID of NVML's is shorter.
const LONGEST_UUID: usize = 64;

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
        device: uuid(&device.uuid)?,
        board: uuid(&device.gpu_uuid)?,
        milli,
        start,
        end,
        healthy: Duration(record.healthy_ms),
        last: record.last || over,
        simulated: record.simulated,
    })
}

fn size(device: &Device) -> Result<u16, String> {
    let milli = u16::try_from(device.milli_gpu).ok().filter(|milli| (1..=WHOLE).contains(milli));
    milli.ok_or_else(|| format!("its device is {} thousandths of a GPU", device.milli_gpu))
}

fn uuid(text: &str) -> Result<String, String> {
    let is_one =
        (1..=LONGEST_UUID).contains(&text.len()) && text.chars().all(|letter| letter.is_ascii_graphic());
    if is_one {
        Ok(text.to_owned())
    } else {
        Err(format!("{:?} is no UUID of a GPU", text.chars().take(LONGEST_UUID).collect::<String>()))
    }
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
