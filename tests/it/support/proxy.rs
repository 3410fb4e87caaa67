//! A TCP proxy between the program and a broker. It can cut connections, discard what it receives, or delay it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Forwards connections until the test process ends.
pub(crate) struct Proxy {
    port: u16,
    state: Arc<ProxyState>,
}

#[derive(Default)]
struct ProxyState {
    discards_all: AtomicBool,
    discards_first_upload: AtomicBool,
    connections: AtomicUsize,
    /// Delay of what the broker sends, in milliseconds.
    delay_ms: AtomicU64,
    streams: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    pub(crate) fn start(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(ProxyState::default());
        let for_thread = Arc::clone(&state);
        thread::spawn(move || {
            for (number, client) in listener.incoming().map_while(Result::ok).enumerate() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                let mut streams = for_thread.streams.lock().unwrap();
                for_thread.connections.store(number + 1, Ordering::SeqCst);
                let directions =
                    [(&client, &server, Direction::Upload(number)), (&server, &client, Direction::Download)];
                for (from, to, direction) in directions {
                    streams.push(from.try_clone().unwrap());
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    forward(from, to, direction, Arc::clone(&for_thread));
                }
            }
        });
        Self { port, state }
    }

    /// Returns the URL for `--queue`.
    pub(crate) fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}", self.port)
    }

    /// Cuts every connection. New ones are accepted.
    pub(crate) fn cut(&self) {
        for stream in self.state.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Discards what the client sends on the first connection, from the moment that a second one exists.
    pub(crate) fn discard_first_upload(&self) {
        self.state.discards_first_upload.store(true, Ordering::SeqCst);
    }

    /// Delays everything that the broker sends by this time.
    pub(crate) fn delay(&self, delay: Duration) {
        self.state.delay_ms.store(u64::try_from(delay.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// Sets whether everything is discarded while connections stay open, as by a firewall that lost its state. The
    /// discarded bytes are lost, so a test ends this state with [`Self::cut`].
    pub(crate) fn discard_all(&self, discards_all: bool) {
        self.state.discards_all.store(discards_all, Ordering::SeqCst);
    }
}

/// Direction of the bytes on a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// From the program, on the connection with this number.
    Upload(usize),
    /// From the broker.
    Download,
}

impl ProxyState {
    fn discards(&self, direction: Direction) -> bool {
        let discards_first =
            self.discards_first_upload.load(Ordering::SeqCst) && self.connections.load(Ordering::SeqCst) > 1;
        self.discards_all.load(Ordering::SeqCst) || direction == Direction::Upload(0) && discards_first
    }

    fn wait(&self, direction: Direction) {
        let delay_ms = self.delay_ms.load(Ordering::SeqCst);
        if delay_ms > 0 && direction == Direction::Download {
            #[expect(clippy::disallowed_methods, reason = "the delay is what a slow network does")]
            thread::sleep(Duration::from_millis(delay_ms));
        }
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, direction: Direction, state: Arc<ProxyState>) {
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            state.wait(direction);
            if !state.discards(direction) && to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
}
