//! Resources of a compiled catalog as one program remembers them for itself: quick to read back, and read by no other version of it.
//!
//! What they hold stands beside their other keys and not in them: it has nothing to escape, and is read at once to the place where it
//! stays. Reading the text of ten thousand files of a kilobyte anew took three times as long as looking at all of them.

use std::io;

use serde::{Deserialize, Serialize};

use crate::{Binary, Resource};

/// Some resources of a catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// The resources without what they hold, and of which ones that is, as JSON.
    pub text: Vec<u8>,
    /// What they hold, one after another.
    pub contents: Vec<Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
struct Text {
    resources: Vec<Resource>,
    contents: Vec<Content>,
}

/// Of which resource it is, whether it is no text, and how many bytes it has.
#[derive(Serialize, Deserialize)]
struct Content(usize, bool, u64);

/// Takes what they hold out of resources.
///
/// # Errors
///
/// A value that JSON cannot say; none of ours is one.
pub fn pack(mut resources: Vec<Resource>) -> serde_json::Result<Packed> {
    let mut contents = Vec::new();
    let mut places = Vec::new();
    for (number, resource) in resources.iter_mut().enumerate() {
        let Some(texts) = resource.spec.texts() else { continue };
        let binary = texts.binary.and_then(Option::take).map(|Binary(bytes)| (true, bytes));
        let text = texts.content.take().map(|text| (false, text.into_bytes()));
        for (is_binary, bytes) in text.into_iter().chain(binary) {
            places.push(Content(number, is_binary, bytes.len() as u64));
            contents.push(bytes);
        }
    }
    let text = serde_json::to_vec(&Text { resources, contents: places })?;
    Ok(Packed { text, contents })
}

/// The resources again. `next` gives so many bytes of what comes next in their contents.
///
/// # Errors
///
/// What is no text of [`pack`] or does not fit it ([`io::ErrorKind::InvalidData`]), and what `next` says.
pub fn unpack(text: &[u8], next: &mut dyn FnMut(u64) -> io::Result<Vec<u8>>) -> io::Result<Vec<Resource>> {
    let Text { mut resources, contents } = serde_json::from_slice(text)?;
    for Content(number, is_binary, length) in contents {
        let texts = resources.get_mut(number).and_then(|resource| resource.spec.texts());
        let texts = texts.ok_or(io::ErrorKind::InvalidData)?;
        let bytes = next(length)?;
        match (is_binary, texts.binary) {
            (true, Some(binary)) => *binary = Some(Binary(bytes)),
            (false, _) => *texts.content = Some(String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData)?),
            (true, None) => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
    Ok(resources)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Facts, Read, local};

    fn compiled() -> Vec<Resource> {
        let text = r#"
            [[directory]]
            path = "/srv"
            [[file]]
            path = "/srv/a"
            content = "first \"line\"\n\u0000ü"
            mode = "0640"
            [[file]]
            path = "/srv/b"
            source = "b"
            [[file]]
            path = "/srv/c"
            content = ""
            [[sysctl]]
            key = "vm.swappiness"
            value = "7"
            [[block]]
            name = "x"
            path = "/etc/hosts"
            content = "192.0.2.1 x\n"
        "#;
        let mut read = |path: &str| -> Read { Ok((path == "b").then(|| vec![0xff, 0, b'\n'])) };
        local("in.toml", text.to_owned(), &mut read, &Facts::default()).unwrap().resource
    }

    fn back(packed: &Packed) -> io::Result<Vec<Resource>> {
        let all = packed.contents.concat();
        let mut left = all.as_slice();
        let mut next = |length: u64| {
            let length = usize::try_from(length).map_err(|_| io::ErrorKind::InvalidData)?;
            let (now, later) = left.split_at_checked(length).ok_or(io::ErrorKind::UnexpectedEof)?;
            left = later;
            Ok(now.to_vec())
        };
        unpack(&packed.text, &mut next)
    }

    #[test]
    fn what_is_packed_comes_back_as_it_was() {
        let resources = compiled();
        let packed = pack(resources.clone()).unwrap();
        assert_eq!(packed.contents.len(), 3);
        assert!(!String::from_utf8_lossy(&packed.text).contains("first"), "contents stand apart");
        assert_eq!(back(&packed).unwrap(), resources);
    }

    #[test]
    fn what_is_torn_is_an_error_and_no_other_catalog() {
        let whole = pack(compiled()).unwrap();
        let mut torn = whole.clone();
        torn.contents.remove(0);
        assert!(back(&torn).is_err());
        for length in 0..whole.text.len() {
            let torn = Packed { text: whole.text[..length].to_vec(), ..whole.clone() };
            assert!(back(&torn).is_err(), "{length} bytes");
        }
        let text = String::from_utf8(whole.text.clone()).unwrap();
        for (from, to) in [("true", "false"), ("[1,", "[7,"), ("[1,", "[-1,")] {
            let places = text.find("\"contents\":").unwrap();
            let text = format!("{}{}", &text[..places], text[places..].replacen(from, to, 1));
            assert!(text.contains(to));
            let _never_a_panic = back(&Packed { text: text.into_bytes(), ..whole.clone() });
        }
    }
}
