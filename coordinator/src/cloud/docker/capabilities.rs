//! Which capabilities nodes get: all that Docker's daemon can give, named one by one.
//!
//! `--privileged` asks for every capability there is and fails where the machine's own bounding set lacks one. The
//! bounding set to read is that of a process on the host, the one that runs `muster up`: a container's is cut down.

use rustix::thread::{CapabilitySet, capability_is_in_bounding_set};

/// The names, as Docker has them, of those in this process's bounding set. Call it on the host, not in the coordinator's
/// container. Which of the newest a daemon knows shows when a container is created.
pub fn bounding_capabilities() -> Vec<String> {
    CapabilitySet::all()
        .iter_names()
        // The kernel refuses to speak of one that it does not know.
        .filter(|(_, capability)| capability_is_in_bounding_set(*capability).unwrap_or(false))
        .map(|(name, _)| name.to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_those_of_the_kernel() {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap();
        let mask = u64::from_str_radix(mask.trim(), 16).unwrap();
        let names = bounding_capabilities();
        assert_eq!(names.len(), mask.count_ones() as usize, "{names:?}");
        assert_eq!(names.contains(&"SYS_RESOURCE".to_owned()), mask >> 24 & 1 == 1);
    }
}
