//! What a converge of many files cannot do without: each is opened, looked at, read whole and closed. Nothing else.
//!
//! usage: raw FOLDER COUNT    files FOLDER/0 … ; prints the bytes read

use std::{fs::File, io::Read};

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().expect("a folder");
    let count: usize = arguments.next().expect("a count").parse().expect("a number");
    let mut content = vec![0; 64 * 1024];
    let mut total = 0;
    for number in 0..count {
        let mut file = File::open(format!("{folder}/{number}"))?;
        let size = file.metadata()?.len() as usize;
        let mut filled = 0;
        while filled < size {
            match file.read(&mut content[filled..size])? {
                0 => break,
                read => filled += read,
            }
        }
        total += filled;
    }
    println!("{total}");
    Ok(())
}
