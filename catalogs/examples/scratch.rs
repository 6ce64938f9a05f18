use std::{fmt::Write as _, time::Instant};
fn main() {
    let mut text = String::new();
    for i in 0..10_000 {
        let _ = write!(text, "[[file]]\npath = \"/srv/many/{}/{i}\"\ncontent = \"file {i}\\n\"\n\n", i % 100);
    }
    let facts = muster_catalog::Facts::default();
    for _ in 0..3 {
        let t = Instant::now();
        let c = muster_catalog::local("a.toml", &text, &mut |_| None, &facts).unwrap();
        let a = t.elapsed();
        let t = Instant::now();
        let toml = c.to_toml();
        let b = t.elapsed();
        let t = Instant::now();
        let back = muster_catalog::Catalog::from_toml(&toml).unwrap();
        let d = t.elapsed();
        let t = Instant::now();
        let j = serde_json::to_vec(&c).unwrap();
        let _: muster_catalog::Catalog = serde_json::from_slice(&j).unwrap();
        println!("local {a:?} to_toml {b:?} ({}) from_toml {d:?} json both {:?} {}", toml.len(), t.elapsed(), back == c);
    }
}
