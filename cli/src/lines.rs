//! Lines of a file or of standard input, read beside the runtime.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    thread,
};

use anyhow::Context;
use tokio::sync::mpsc;

/// Longest line that is read, in bytes: 64 MiB, the largest message that Kafka is usually allowed.
const LONGEST: u64 = 64 << 20;
/// Lines that wait to be taken; then reading waits.
const WAITING: usize = 256;

/// One line, without its end.
pub(crate) struct Line {
    /// Counted from 1.
    pub(crate) number: u64,
    pub(crate) bytes: Vec<u8>,
    /// How far the file has been read with it.
    pub(crate) end: u64,
}

/// Reads `file`, or standard input if it is `-`. Dropping the receiver ends the reading.
pub(crate) fn read(file: &Path) -> anyhow::Result<mpsc::Receiver<anyhow::Result<Line>>> {
    let input: Box<dyn Read + Send> = if is_stdin(file) {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(file).with_context(|| format!("open {}", file.display()))?)
    };
    let (lines, taken) = mpsc::channel(WAITING);
    let name: PathBuf = file.to_owned();
    thread::Builder::new()
        .name("lines".into())
        .spawn(move || {
            let (mut input, mut number, mut end) = (BufReader::new(input), 0, 0);
            loop {
                let mut bytes = Vec::new();
                number += 1;
                let read = input.by_ref().take(LONGEST).read_until(b'\n', &mut bytes);
                let line = match read {
                    Ok(0) => return,
                    Ok(count) if count as u64 == LONGEST && bytes.last() != Some(&b'\n') => {
                        Err(anyhow::anyhow!("read {}: line {number} is longer than 64 MiB", name.display()))
                    }
                    Ok(count) => {
                        end += count as u64;
                        while matches!(bytes.last(), Some(b'\n' | b'\r')) {
                            bytes.pop();
                        }
                        Ok(Line { number, bytes, end })
                    }
                    Err(error) => Err(error).with_context(|| format!("read {}", name.display())),
                };
                let failed = line.is_err();
                if lines.blocking_send(line).is_err() || failed {
                    return;
                }
            }
        })
        .context("start a thread")?;
    Ok(taken)
}

/// Whether the name stands for standard input.
pub(crate) fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == "-"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_come_numbered_and_without_their_ends() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        std::fs::write(&file, "one\r\n\nthree").unwrap();
        let mut lines = read(&file).unwrap();
        let mut seen = Vec::new();
        while let Some(line) = lines.recv().await {
            let line = line.unwrap();
            seen.push((line.number, String::from_utf8(line.bytes).unwrap(), line.end));
        }
        assert_eq!(seen, [(1, "one".into(), 5), (2, String::new(), 6), (3, "three".into(), 11)]);
        assert!(read(Path::new("/nowhere/a")).unwrap_err().to_string().contains("/nowhere/a"));
    }
}
