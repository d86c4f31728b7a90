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
}
