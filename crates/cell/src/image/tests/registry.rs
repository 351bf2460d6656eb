//! A registry on this host, for the tests of packages: it serves files over HTTP.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

/// What it answers: a path, the kind of its body, and the body.
pub(super) type Answers = Vec<(String, &'static str, Vec<u8>)>;

/// Serves these for as long as the test lasts; its address, which ends with `/`.
pub(super) fn serve(answers: Answers) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}/", listener.local_addr().unwrap());
    let answers = Arc::new(answers);
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let answers = Arc::clone(&answers);
            std::thread::spawn(move || answer(connection.unwrap(), &answers));
        }
    });
    base
}

fn answer(mut connection: TcpStream, answers: &Answers) {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && connection.read(&mut byte).unwrap_or(0) == 1 {
        request.push(byte[0]);
    }
    let request = String::from_utf8(request).unwrap();
    let path = request.split_whitespace().nth(1).unwrap_or_default();
    let found = answers.iter().find(|(known, _, _)| known == path);
    let (status, kind, body) =
        found.map_or(("404 Not Found", "", &[][..]), |(_, kind, body)| ("200 OK", *kind, body.as_slice()));
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    // Who asked may have heard enough.
    drop(connection.write_all(head.as_bytes()).and_then(|()| connection.write_all(body)));
}
