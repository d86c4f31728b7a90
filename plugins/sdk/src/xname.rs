//! xnames: the names of places in a cluster, such as `x1000c0s0b0n0` (contract 2.2).

/// The canonical form: trimmed, lower case, no leading zeros in its numbers (`X0001C0` is `x1c0`).
pub fn normalise(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut digits = String::new();
    let flush = |digits: &mut String, out: &mut String| {
        if !digits.is_empty() {
            let short = digits.trim_start_matches('0');
            out.push_str(if short.is_empty() { "0" } else { short });
            digits.clear();
        }
    };
    for c in text.trim().to_ascii_lowercase().chars() {
        if c.is_ascii_digit() {
            digits.push(c);
        } else {
            flush(&mut digits, &mut out);
            out.push(c);
        }
    }
    flush(&mut digits, &mut out);
    out
}

/// SMD's component type of a canonical xname, when it is one that can own an address: `Node`, `NodeBMC`, `ChassisBMC`, …
pub fn kind(xname: &str) -> Option<&'static str> {
    let parts = split(xname)?;
    let letters: String = parts.iter().map(|(letter, _)| *letter).collect();
    let number = |i: usize| parts[i].1;
    let kind = match letters.as_str() {
        "xcsbn" => "Node",
        "xcsb" => "NodeBMC",
        "xcb" if number(2) == 0 => "ChassisBMC",
        "xcrb" => "RouterBMC",
        "xcw" if number(2) > 0 => "MgmtSwitch",
        "xchs" if number(2) > 0 && (1..=9).contains(&number(3)) => "MgmtHLSwitch",
        "xm" if number(1) <= 3 => return (number(0) <= 9999).then_some("CabinetPDUController"),
        "xb" if number(1) == 0 => return (number(0) <= 9999).then_some("CabinetBMC"),
        "xcsbnv" => "VirtualNode",
        "dw" => return Some("CDUMgmtSwitch"),
        _ => return None,
    };
    (number(0) <= 9999 && number(1) <= 7).then_some(kind)
}

/// SMD's component type of a canonical xname, of all that contract 2.2 lists; [`kind`] has only those that can own an address.
pub fn component_type(xname: &str) -> Option<&'static str> {
    match xname {
        "s0" => return Some("System"),
        "all" => return Some("All"),
        "all_comp" => return Some("AllComp"),
        "all_svc" => return Some("AllSvc"),
        _ => {}
    }
    if let Some(number) = xname.strip_prefix("sms") {
        return is_number(number).then_some("SMSBox");
    }
    if let Some(numbers) = xname.strip_prefix('p') {
        let (first, second) = numbers.split_once('.').unwrap_or((numbers, "0"));
        return (is_number(first) && is_number(second)).then_some("Partition");
    }
    let parts = split(xname)?;
    let letters: String = parts.iter().map(|(letter, _)| *letter).collect();
    let numbers: Vec<u32> = parts.iter().map(|(_, number)| *number).collect();
    let last = numbers.last().copied()?;
    // What a part may be: `c` a chassis and `m` a PDU controller are few, a cabinet has at most four digits.
    if letters.starts_with('x') && numbers.first().is_some_and(|cabinet| *cabinet > 9999) {
        return None;
    }
    let second = numbers.get(1).copied().unwrap_or(0);
    let in_chassis = letters.starts_with("xc") && second <= 7;
    let in_pdu = letters.starts_with("xm") && second <= 3;
    let kind = match letters.as_str() {
        "x" => "Cabinet",
        "d" => "CDU",
        "dw" => "CDUMgmtSwitch",
        "xb" if last == 0 => "CabinetBMC",
        "xbi" if second == 0 && last <= 3 => "CabinetBMCNic",
        "xe" if last <= 1 => "CEC",
        "xd" if last <= 1 => "CabinetCDU",
        "xm" if in_pdu => "CabinetPDUController",
        "xmi" if in_pdu && last <= 3 => "CabinetPDUNic",
        "xmp" if in_pdu && last <= 7 => "CabinetPDU",
        "xmpv" if in_pdu && last > 0 => "CabinetPDUPowerConnector",
        "xmpj" if in_pdu && last > 0 => "CabinetPDUOutlet",
        _ if !in_chassis => return None,
        "xc" => "Chassis",
        "xcb" if last == 0 => "ChassisBMC",
        "xcbi" if last <= 3 => "ChassisBMCNic",
        "xcf" if last == 0 => "CMMFpga",
        "xct" if last <= 2 => "CMMRectifier",
        "xcs" => "ComputeModule",
        "xcsv" | "xcsj" if last == 1 || last == 2 => "NodePowerConnector",
        "xcse" => "NodeEnclosure",
        "xcset" if last <= 2 => "NodeEnclosurePowerSupply",
        "xcsb" => "NodeBMC",
        "xcsbi" if last <= 3 => "NodeBMCNic",
        "xcsbf" if last == 0 => "NodeFpga",
        "xcsbn" => "Node",
        "xcsbnv" => "VirtualNode",
        "xcsbni" if last <= 3 => "NodeNic",
        "xcsbnh" if last <= 3 => "NodeHsnNic",
        "xcsbnp" if last <= 3 => "Processor",
        "xcsbnd" => "Memory",
        "xcsbna" => "NodeAccel",
        "xcsbnr" if last <= 7 => "NodeAccelRiser",
        "xcsbng" => "StorageGroup",
        "xcsbngk" => "Drive",
        "xcr" => "RouterModule",
        "xcrv" if last == 1 || last == 2 => "RouterPowerConnector",
        "xcrb" => "RouterBMC",
        "xcrbi" if last <= 3 => "RouterBMCNic",
        "xcrf" if last <= 1 => "RouterFpga",
        "xcre" => "HSNBoard",
        "xcra" if last <= 3 => "HSNAsic",
        "xcral" => "HSNLink",
        "xcrj" if last > 0 => "HSNConnector",
        "xcrjp" if last <= 1 => "HSNConnectorPort",
        "xcrt" => "RouterTOR",
        "xcrtf" if last <= 1 => "RouterTORFpga",
        "xcw" if last > 0 => "MgmtSwitch",
        "xcwj" if last > 0 => "MgmtSwitchConnector",
        "xch" if last > 0 => "MgmtHLSwitchEnclosure",
        "xchs" if (1..=9).contains(&last) => "MgmtHLSwitch",
        _ => return None,
    };
    Some(kind)
}

/// Every type that [`component_type`] can give.
pub const TYPES: &[&str] = &[
    "All",
    "AllComp",
    "AllSvc",
    "CDU",
    "CDUMgmtSwitch",
    "CEC",
    "CMMFpga",
    "CMMRectifier",
    "Cabinet",
    "CabinetBMC",
    "CabinetBMCNic",
    "CabinetCDU",
    "CabinetPDU",
    "CabinetPDUController",
    "CabinetPDUNic",
    "CabinetPDUOutlet",
    "CabinetPDUPowerConnector",
    "Chassis",
    "ChassisBMC",
    "ChassisBMCNic",
    "ComputeModule",
    "Drive",
    "HSNAsic",
    "HSNBoard",
    "HSNConnector",
    "HSNConnectorPort",
    "HSNLink",
    "Memory",
    "MgmtHLSwitch",
    "MgmtHLSwitchEnclosure",
    "MgmtSwitch",
    "MgmtSwitchConnector",
    "Node",
    "NodeAccel",
    "NodeAccelRiser",
    "NodeBMC",
    "NodeBMCNic",
    "NodeEnclosure",
    "NodeEnclosurePowerSupply",
    "NodeFpga",
    "NodeHsnNic",
    "NodeNic",
    "NodePowerConnector",
    "Partition",
    "Processor",
    "RouterBMC",
    "RouterBMCNic",
    "RouterFpga",
    "RouterModule",
    "RouterPowerConnector",
    "RouterTOR",
    "RouterTORFpga",
    "SMSBox",
    "StorageGroup",
    "System",
    "VirtualNode",
];

/// The controllers that a Redfish endpoint can be (contract 2.2).
pub fn is_controller(component_type: &str) -> bool {
    matches!(
        component_type,
        "ChassisBMC"
            | "RouterBMC"
            | "NodeBMC"
            | "CabinetPDUController"
            | "MgmtSwitch"
            | "MgmtHLSwitch"
            | "CDUMgmtSwitch"
    )
}

/// The NID of a node that was given none: a number made of its place (contract 2.3). `None`: it is not a node.
pub fn default_nid(xname: &str) -> Option<u64> {
    if !matches!(kind(xname), Some("Node" | "VirtualNode")) {
        return None;
    }
    let parts = split(xname)?;
    let number = |at: usize| parts.get(at).map_or(0, |(_, number)| u64::from(*number));
    Some((number(0) + 1) * 16384 + number(1) * 2048 + number(2) * 32 + number(3) * 4 + number(4))
}

fn is_number(text: &str) -> bool {
    let canonical = text == "0" || !text.starts_with('0');
    canonical && (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The BMC of a node: `x1000c0s0b0` of `x1000c0s0b0n0`.
pub fn bmc_of(xname: &str) -> Option<&str> {
    if kind(xname) != Some("Node") {
        return None;
    }
    xname.rfind('n').map(|at| &xname[..at])
}

/// Letters and numbers in turn; `None` when it is not of that form, is not canonical, or a number has more than 9 digits.
fn split(xname: &str) -> Option<Vec<(char, u32)>> {
    let mut parts = Vec::new();
    let mut chars = xname.chars().peekable();
    while let Some(letter) = chars.next() {
        if !letter.is_ascii_lowercase() {
            return None;
        }
        let mut digits = String::new();
        while let Some(digit) = chars.next_if(char::is_ascii_digit) {
            digits.push(digit);
        }
        if digits.is_empty() || digits.len() > 9 || (digits.len() > 1 && digits.starts_with('0')) {
            return None;
        }
        parts.push((letter, digits.parse().ok()?));
    }
    (!parts.is_empty()).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_canonical() {
        assert_eq!(normalise(" X01000c0s00b0n0 "), "x1000c0s0b0n0");
        assert_eq!(normalise("x0"), "x0");
    }

    #[test]
    fn the_type_follows_from_the_letters() {
        assert_eq!(kind("x1000c0s0b0n0"), Some("Node"));
        assert_eq!(kind("x1000c7s3b5"), Some("NodeBMC"));
        assert_eq!(kind("x1c0b0"), Some("ChassisBMC"));
        assert_eq!(kind("x1m2"), Some("CabinetPDUController"));
        for bad in [
            "",
            "x1000c8s0b0n0",
            "x10000c0s0b0n0",
            "x1000c0s0b0n",
            "compute1",
            "x1c0s0b0n0x",
            "x01c0s0b0n0",
            "x1c0s0b0n99999999999",
        ] {
            assert_eq!(kind(bad), None, "{bad}");
        }
        assert_eq!(bmc_of("x1000c0s0b0n1"), Some("x1000c0s0b0"));
    }

    #[test]
    fn every_type_of_the_contract_is_known_and_what_is_beyond_its_grammar_is_not() {
        for (xname, expected) in [
            ("x1", "Cabinet"),
            ("x1c7", "Chassis"),
            ("x1c0s3", "ComputeModule"),
            ("x1c0r3b0", "RouterBMC"),
            ("x1c0s3b0i3", "NodeBMCNic"),
            ("x1c0s3b0n0h2", "NodeHsnNic"),
            ("x1c0s3b0n0g1k5", "Drive"),
            ("x1c0s3b0n0v1", "VirtualNode"),
            ("x1m3p7j1", "CabinetPDUOutlet"),
            ("x1m0p0v1", "CabinetPDUPowerConnector"),
            ("x1c0w1", "MgmtSwitch"),
            ("x1c0h1s9", "MgmtHLSwitch"),
            ("d3w2", "CDUMgmtSwitch"),
            ("x1e1", "CEC"),
            ("sms12", "SMSBox"),
            ("s0", "System"),
            ("p3.2", "Partition"),
            ("all_svc", "AllSvc"),
        ] {
            assert_eq!(component_type(xname), Some(expected), "{xname}");
            assert!(TYPES.contains(&expected));
        }
        for bad in [
            "",
            "s1",
            "x1c8",
            "x10000",
            "x1m4",
            "x1c0b1",
            "x1c0w0",
            "x1c0h1s10",
            "x1c0s3b0n0p4",
            "x1c0s3b0n0q1",
            "p1.2.3",
            "p01",
            "sms",
            "x1e2",
            "x1c0s3j3",
        ] {
            assert_eq!(component_type(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_node_without_a_nid_gets_one_of_its_place() {
        assert_eq!(default_nid("x1000c0s0b0n0"), Some(1001 * 16384));
        assert_eq!(default_nid("x0c1s2b3n4"), Some(16384 + 2048 + 64 + 12 + 4));
        assert_eq!(default_nid("x0c1s2b3"), None);
    }
}
