//! The client: this same program, run in a cell against its model endpoint, or on the host against the provider itself.
//! Plain HTTP/1.1 over a blocking socket, so that it costs next to nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::{Failure, Result};

/// How long the client waits for the next byte.
const PATIENCE: Duration = Duration::from_secs(300);

/// What one request took, as seen by the client.
#[derive(Debug, Clone, Copy)]
pub struct Took {
    /// To the first byte of the body, µs.
    pub first: f64,
    /// To its last, µs.
    pub whole: f64,
    /// Bytes of the body.
    pub bytes: f64,
}

impl Took {
    /// Reads what [`main`] printed.
    pub fn parse(printed: &str) -> Result<Vec<Self>> {
        let line = |line: &str| match line
            .split(' ')
            .map(str::parse)
            .collect::<std::result::Result<Vec<f64>, _>>()
        {
            Ok(numbers) if numbers.len() == 3 => {
                Ok(Self { first: numbers[0], whole: numbers[1], bytes: numbers[2] })
            }
            Ok(_) | Err(_) => Err(Failure::from(format!("the client said `{line}`"))),
        };
        printed.lines().map(line).collect()
    }
}

/// `get ADDRESS PATH COUNT`, `post ADDRESS PATH MODEL BYTES` or `print BYTES`. The first two print a line for each
/// request; the last prints so many bytes.
pub fn main(args: &[&str]) -> Result<()> {
    match args {
        ["get", address, path, count] => {
            let mut connection = connect(address)?;
            for _ in 0..count.parse::<u32>()? {
                let start = Instant::now();
                let head = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
                connection.get_mut().write_all(head.as_bytes())?;
                answer(&mut connection, start)?;
            }
            Ok(())
        }
        ["post", address, path, model, bytes] => {
            let mut connection = connect(address)?;
            let start = Instant::now();
            send(connection.get_mut(), (address, path), model, bytes.parse()?)?;
            answer(&mut connection, start)
        }
        ["print", bytes] => pour(&mut std::io::stdout().lock(), 0, bytes.parse()?),
        _ => Err("wrong arguments".into()),
    }
}

fn connect(address: &str) -> Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(BufReader::with_capacity(64 * 1024, stream))
}

/// Sends a streaming request of the Anthropic dialect whose prompt makes the body `bytes` long, or as short as can be.
fn send(to: &mut TcpStream, (address, path): (&str, &str), model: &str, bytes: usize) -> Result<()> {
    let front = format!(
        r#"{{"model":"{model}","max_tokens":1000,"stream":true,"messages":[{{"role":"user","content":"x"#
    );
    let end = r#""}]}"#;
    let filling = bytes.saturating_sub(front.len() + end.len());
    let length = front.len() + filling + end.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nx-api-key: {}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{front}",
        crate::model::KEY
    );
    to.write_all(head.as_bytes())?;
    pour(to, b'x', filling)?;
    Ok(to.write_all(end.as_bytes())?)
}

fn pour(to: &mut impl Write, byte: u8, mut bytes: usize) -> Result<()> {
    let piece = [byte; 32 * 1024];
    while bytes > 0 {
        let now = bytes.min(piece.len());
        to.write_all(&piece[..now])?;
        bytes -= now;
    }
    Ok(to.flush()?)
}

/// Reads one response and prints what it took.
fn answer(from: &mut BufReader<TcpStream>, start: Instant) -> Result<()> {
    let status = line(from)?;
    let (mut length, mut chunked) = (None, false);
    loop {
        let field = line(from)?.to_ascii_lowercase();
        if field.is_empty() {
            break;
        }
        match field.split_once(": ") {
            Some(("content-length", value)) => length = Some(value.parse::<u64>()?),
            Some(("transfer-encoding", value)) => chunked = value == "chunked",
            Some(_) | None => {}
        }
    }
    from.fill_buf()?;
    let first = start.elapsed();
    let mut bytes = 0;
    if chunked {
        loop {
            let size = u64::from_str_radix(&line(from)?, 16)?;
            bytes += skip(from, size)?;
            line(from)?;
            if size == 0 {
                break;
            }
        }
    } else {
        bytes = skip(from, length.ok_or("an answer of unknown length")?)?;
    }
    let whole = start.elapsed();
    if !status.starts_with("HTTP/1.1 200") {
        return Err(status.into());
    }
    writeln!(std::io::stdout(), "{} {} {bytes}", first.as_micros(), whole.as_micros())?;
    Ok(())
}

fn line(from: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Err("the answer was cut".into());
    }
    Ok(line.trim_end().to_owned())
}

fn skip(from: &mut impl BufRead, bytes: u64) -> Result<u64> {
    let skipped = std::io::copy(&mut from.take(bytes), &mut std::io::sink())?;
    if skipped == bytes { Ok(bytes) } else { Err("the answer was cut".into()) }
}
