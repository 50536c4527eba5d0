//! A server that does not take what a program says: the program waits, memory stays, and nothing is lost; or lines are
//! dropped, and that is said.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::exec::appears;
use crate::support::{Cli, KEY, PATIENCE};

/// Stands for a server whose API answers only when it is let.
struct Reluctant {
    url: String,
    taken: Arc<Mutex<Vec<Value>>>,
    open: watch::Sender<bool>,
}

impl Reluctant {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (open, opened) = watch::channel(false);
        let taken = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&taken);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&all), opened.clone()));
            }
        });
        Self { url, taken, open }
    }

    fn lines(&self) -> Vec<String> {
        let taken = self.taken.lock().unwrap();
        taken.iter().filter_map(|message| message["data"]["line"].as_str().map(str::to_owned)).collect()
    }
}

/// One request of the command line.
async fn answer(mut stream: TcpStream, taken: Arc<Mutex<Vec<Value>>>, mut opened: watch::Receiver<bool>) {
    let mut request = Vec::new();
    let (head, length) = loop {
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).await.unwrap();
        request.extend_from_slice(&chunk[..read]);
        let end = request.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8(request[..end].to_vec()).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
            let length: usize = length.parse().unwrap();
            break (head, end + 4 + length);
        }
        assert!(read > 0, "a whole request");
    };
    let mut body = vec![0; length - request.len()];
    stream.read_exact(&mut body).await.unwrap();
    request.extend_from_slice(&body);
    let body: Value = serde_json::from_slice(&request[length - body_length(&head)..]).unwrap();
    let answer = if head.starts_with("POST /api/v1/publish/batch ") {
        if opened.wait_for(|open| *open).await.is_err() {
            return;
        }
        let messages = body["messages"].as_array().unwrap().clone();
        let results = vec![json!({ "offset": 1 }); messages.len()];
        taken.lock().unwrap().extend(messages);
        json!({ "results": results })
    } else {
        json!({ "offset": 1 })
    };
    let answer = format!("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{answer}");
    // Whoever does not wait for the answer comes again.
    let _ = stream.write_all(answer.as_bytes()).await;
}

fn body_length(head: &str) -> usize {
    head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap().parse().unwrap()
}

/// A hundred thousand lines.
const MANY: &str = "touch begun; i=0; while [ $i -lt 100000 ]; do echo \"line $i of very many\"; i=$((i+1)); done; touch done";

#[tokio::test]
async fn program_waits_for_a_slow_server_and_memory_stays() {
    let server = Reluctant::start().await;
    let cli = Cli::new().env("OUTSPOKE_SERVER", &server.url).env("OUTSPOKE_KEY", KEY);
    let mut exec = cli.start(&["exec", "build", "-q", "--timeout", "60s", "--", "sh", "-c", MANY]);
    appears(&cli.home().join("begun")).await;
    // The pipe, the queue and one batch have at most 3,000 lines; the rest waits in the program.
    let mut most = exec.usage().resident_bytes;
    for _ in 0..50 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        most = most.max(exec.usage().resident_bytes);
    }
    assert!(!cli.home().join("done").exists(), "the program does not run ahead");
    assert!(server.lines().is_empty());
    server.open.send_replace(true);
    assert_eq!(exec.ended(PATIENCE).await.code(), Some(0));
    assert!(most < 96 << 20, "{most} bytes");
    let wanted: Vec<_> = (0..100_000).map(|number| format!("line {number} of very many")).collect();
    assert!(server.lines() == wanted, "every line once, in order");
}

#[tokio::test]
async fn lines_that_are_dropped_are_counted_and_said() {
    let server = Reluctant::start().await;
    let cli = Cli::new().env("OUTSPOKE_SERVER", &server.url).env("OUTSPOKE_KEY", KEY);
    let mut exec =
        cli.start(&["exec", "build", "-q", "--overflow", "drop", "--timeout", "60s", "--", "sh", "-c", MANY]);
    // The server takes nothing, and the program comes to its end all the same.
    appears(&cli.home().join("done")).await;
    server.open.send_replace(true);
    assert_eq!(exec.ended(PATIENCE).await.code(), Some(0));
    let taken = server.taken.lock().unwrap();
    let dropped: u64 = taken.iter().filter_map(|message| message["data"]["dropped"].as_u64()).sum();
    let lines = taken.iter().filter(|message| message["type"] == "process_output").count() as u64;
    let notices = taken.iter().filter(|message| message["data"]["dropped"].is_u64()).count() as u64;
    assert!(dropped > 0 && lines - notices + dropped == 100_000, "{lines} {notices} {dropped}");
    assert_eq!(taken.last().unwrap()["data"]["exitCode"], 0);
}
