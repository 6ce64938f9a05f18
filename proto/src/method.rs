//! Every method of the contract as an enum, so that a method without an entry in a table does not compile.

include!(concat!(env!("OUT_DIR"), "/methods.rs"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_its_method() {
        assert!(Method::ALL.len() > 15);
        for method in Method::ALL {
            assert_eq!(Method::from_path(method.path()), Some(*method));
        }
        assert_eq!(Method::from_path("/muster.v1.Agent/Nothing"), None);
    }

    #[test]
    fn streams_are_known_as_such() {
        assert!(Method::AgentWatch.streams());
        assert!(!Method::AgentPull.streams());
    }
}
