//! Lanes: two queues with priority. A signup goes before a bulk job, and bulk keeps a share.
//!
//! [`LanePicker`] decides which lane is next; [`LaneQueue`] is where requests of both lanes wait, first come, first
//! served within a lane.
//!
//! **Invariant:** however many bulk jobs wait, a signup waits only for earlier signups and, if bulk is owed its share,
//! for one bulk job. A bulk job at the front of the queue that isn't owed its share lets a new signup go first.

mod picker;
mod queue;

pub(crate) use self::picker::LanePicker;
pub(crate) use self::queue::{FrontOfQueue, LaneQueue};
