//! The memory that the process has used.

/// Returns the largest resident memory of this process so far, in bytes.
///
/// Known on Linux (`VmHWM` of `/proc/self/status`); `None` elsewhere.
pub(crate) fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    parse_peak(&status)
}

fn parse_peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines() {
        let cases = [
            (
                "Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t 12 kB\n",
                Some(2_097_152),
            ),
            ("VmRSS:\t 12 kB\n", None),
            ("VmHWM:\t many kB\n", None),
            ("VmHWM:\t 99999999999999999999 kB\n", None),
        ];
        for (status, peak) in cases {
            assert_eq!(parse_peak(status), peak, "{status:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_some_memory() {
        let peak = peak_rss_bytes().unwrap();
        assert!((100_000..1 << 40).contains(&peak), "{peak}");
    }
}
