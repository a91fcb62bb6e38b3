use hawser_wire::{LaneId, TrafficClass};

/// The lane, of those that are up, that carries `class`: the one made for it, else the one made for
/// the nearest class, control last, so that a link with one lane carries everything over it
/// (collapsed mode).
pub fn lane_for(
    class: TrafficClass,
    lanes: impl IntoIterator<Item = (LaneId, TrafficClass)>,
) -> Option<LaneId> {
    lanes
        .into_iter()
        .min_by_key(|&(lane, made_for)| (distance(class, made_for), lane))
        .map(|(lane, _)| lane)
}

const fn distance(class: TrafficClass, made_for: TrafficClass) -> u8 {
    match (class, made_for) {
        (TrafficClass::Control, TrafficClass::Priority)
        | (TrafficClass::Priority, TrafficClass::Bulk)
        | (TrafficClass::Bulk, TrafficClass::Priority) => 1,
        (TrafficClass::Control, TrafficClass::Bulk)
        | (TrafficClass::Priority | TrafficClass::Bulk, TrafficClass::Control) => 2,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TrafficClass::{Bulk, Control, Priority};

    #[test]
    fn each_class_has_its_lane_and_falls_back_to_the_nearest() {
        let check = |class, lanes: &[(u16, TrafficClass)], expected: Option<u16>| {
            let lanes = lanes.iter().map(|&(lane, class)| (LaneId(lane), class));
            assert_eq!(lane_for(class, lanes), expected.map(LaneId));
        };
        let all = [(0, Control), (1, Priority), (2, Bulk), (3, Bulk)];
        check(Control, &all, Some(0));
        check(Priority, &all, Some(1));
        check(Bulk, &all, Some(2));
        check(Bulk, &all[..1], Some(0));
        check(Bulk, &all[..2], Some(1));
        check(Control, &all[2..], Some(2));
        check(Priority, &[(0, Control), (2, Bulk)], Some(2));
        check(Bulk, &[], None);
    }
}
