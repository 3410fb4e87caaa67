//! A network between the program and a broker that can be cut or made to swallow everything.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// Forwards connections. Ends with the process.
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    swallows: AtomicBool,
    deafens: AtomicBool,
    connections: AtomicUsize,
    streams: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    pub(crate) fn start(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        thread::spawn(move || {
            for (number, client) in listener.incoming().map_while(Result::ok).enumerate() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                let mut streams = for_thread.streams.lock().unwrap();
                for_thread.connections.store(number + 1, Ordering::SeqCst);
                for (from, to, is_the_firsts_word) in [(&client, &server, number == 0), (&server, &client, false)] {
                    streams.push(from.try_clone().unwrap());
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    forward(from, to, is_the_firsts_word, Arc::clone(&for_thread));
                }
            }
        });
        Self { port, shared }
    }

    /// For `--queue`.
    pub(crate) fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}", self.port)
    }

    /// Cuts every connection; new ones are welcome.
    pub(crate) fn cut(&self) {
        for stream in self.shared.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Once there is a second connection, the broker hears nothing more on the first one.
    pub(crate) fn deafen_the_first(&self) {
        self.shared.deafens.store(true, Ordering::SeqCst);
    }

    /// Whether everything is swallowed without a word, as by a firewall that lost its state. What was swallowed is
    /// lost for good, so end it with [`Self::cut`].
    pub(crate) fn swallow(&self, swallows: bool) {
        self.shared.swallows.store(swallows, Ordering::SeqCst);
    }
}

impl Shared {
    fn loses(&self, is_the_firsts_word: bool) -> bool {
        let is_deaf = self.deafens.load(Ordering::SeqCst) && self.connections.load(Ordering::SeqCst) > 1;
        self.swallows.load(Ordering::SeqCst) || is_the_firsts_word && is_deaf
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, is_the_firsts_word: bool, shared: Arc<Shared>) {
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if !shared.loses(is_the_firsts_word) && to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
}
