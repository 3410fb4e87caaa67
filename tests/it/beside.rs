//! Another program looks into the embedded queue while a worker has it open, as a backup does: nothing is lost by that.

use std::process::Command;

use crate::support::{Place, customers};

#[test]
fn a_program_that_looks_into_the_queue_takes_nothing_from_the_worker() {
    let place = Place::with("people.csv", customers(0..40));
    place.write("more.csv", customers(40..60));
    place.program("import people.csv --queue local:jobs.db").ends_with(0);
    let mut worker = place.program("worker --queue local:jobs.db --sandbox --rate 100 --out out").start();
    worker.says("job finished");
    for _ in 0..2 {
        let script =
            "import sqlite3; c = sqlite3.connect('jobs.db'); c.execute('SELECT 1 FROM jobs').fetchone(); c.close()";
        let looked = Command::new("python3").args(["-c", script]).current_dir(place.path("")).status().unwrap();
        assert!(looked.success());
        // The last to close a database deletes its log; a worker is still at it.
        assert!(place.path("jobs.db-wal").exists());
    }
    place.program("import more.csv --queue local:jobs.db").ends_with(0);
    worker.says_times("job finished", 60);
    worker.signal("TERM");
    worker.ends_with(0).did_not_say(&["damaged"]);
    assert_eq!(place.results("out").events().len(), 60);
}
