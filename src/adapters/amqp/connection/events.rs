//! What the broker says on a connection while it is open.

use std::fmt;
use std::pin::Pin;

use futures_util::{Stream, StreamExt as _};
use lapin::{Connection, Event};

use crate::adapters::amqp::connection::explain::explain;

/// A change of an open connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ConnectionEvent {
    /// The broker has an alarm and reads nothing from this connection (`connection.blocked`). Holds its reason.
    Blocked(String),
    /// The alarm has ended (`connection.unblocked`).
    Unblocked,
    /// The connection is closed. Holds the reason.
    Closed(String),
}

/// The events of a connection. One reader for each connection: a second one would take events away from the first.
pub(crate) struct ConnectionEvents(Pin<Box<dyn Stream<Item = Event> + Send>>);

impl ConnectionEvents {
    pub(crate) fn of(connection: &Connection) -> Self {
        Self(Box::pin(connection.events_listener()))
    }

    /// Waits for the next event. Cancel-safe.
    pub(crate) async fn next(&mut self) -> ConnectionEvent {
        loop {
            match self.0.next().await {
                Some(Event::ConnectionBlocked(reason)) => return ConnectionEvent::Blocked(reason),
                Some(Event::ConnectionUnblocked) => return ConnectionEvent::Unblocked,
                Some(Event::Error(error)) => return ConnectionEvent::Closed(explain(&error)),
                Some(_) => {}
                None => return ConnectionEvent::Closed("the connection is closed".to_owned()),
            }
        }
    }
}

impl fmt::Debug for ConnectionEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConnectionEvents")
    }
}
