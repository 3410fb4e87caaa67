//! Another program may open the embedded queue while a worker uses it, as a backup does. No job is lost by that.

use std::process::Command;

use crate::support::{TestDir, customers};

#[test]
fn another_program_may_open_the_embedded_queue_of_a_running_worker() {
    let dir = TestDir::with("people.csv", customers(0..40));
    dir.write("more.csv", customers(40..60));
    dir.program("import people.csv --queue local:jobs.db").expect_exit(0);
    let mut worker = dir.program("worker --queue local:jobs.db --sandbox --rate 100 --out out").start();
    worker.wait_for_output("job finished");
    for _ in 0..2 {
        let script =
            "import sqlite3; c = sqlite3.connect('jobs.db'); c.execute('SELECT 1 FROM jobs').fetchone(); c.close()";
        let status = Command::new("python3").args(["-c", script]).current_dir(dir.path("")).status().unwrap();
        assert!(status.success());
        // SQLite deletes the write-ahead log when the last connection closes. The worker's connection is still open.
        assert!(dir.path("jobs.db-wal").exists());
    }
    dir.program("import more.csv --queue local:jobs.db").expect_exit(0);
    worker.wait_for_output_times("job finished", 60);
    worker.signal("TERM");
    worker.expect_exit(0).assert_no_output(&["damaged"]);
    assert_eq!(dir.results("out").events().len(), 60);
}
