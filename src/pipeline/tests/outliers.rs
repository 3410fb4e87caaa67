//! Jobs that alone get answers about the account.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::domain::EventType;
use crate::pipeline::tests::fixture::{FIREWALLED, Fixture, PAGED, ScriptedPartner, T0, emails, users};
use crate::pipeline::worker::WorkerEnd;
use crate::ports::UserListPage;

#[tokio::test(start_paused = true)]
async fn a_row_that_a_firewall_refuses_does_not_delay_other_jobs() {
    let fixture =
        Fixture::new(&ScriptedPartner::default()).with_jobs([FIREWALLED]).with_jobs(emails(200)).with_rate(10);
    let start = Instant::now();
    let after_four_minutes = async {
        sleep(Duration::from_secs(240)).await;
        (fixture.queue.events().len(), fixture.queue.waiting())
    };
    let (end, (finished, waiting)) = tokio::join!(fixture.work(), after_four_minutes);
    assert_eq!((finished, waiting.len(), waiting[0].attempts, waiting[0].first_sent_at), (200, 1, 0, None));
    // It fails although no other job is left to compare it with.
    assert_eq!(end, WorkerEnd::Drained);
    assert!(start.elapsed() < Duration::from_secs(3_600), "{:?}", start.elapsed());
    let events = fixture.queue.events();
    assert_eq!((events.len(), fixture.queue.dead()), (201, 1));
    let outlier = &events[200];
    assert_eq!((outlier.event_type, outlier.may_have_been_created), (EventType::Failed, false));
    assert_eq!(outlier.errors[0].code, "OUTLIER_JOB");
}

#[tokio::test(start_paused = true)]
async fn an_outlier_job_that_may_have_created_a_user_is_looked_up() {
    for (is_listed, expected) in [(true, (EventType::Created, false)), (false, (EventType::Failed, true))] {
        let list = |_| if is_listed { users(&[PAGED], 1, T0) } else { Ok(UserListPage::default()) };
        // Probes read the list too.
        let partner = ScriptedPartner::default().listing((0..50).map(list));
        let fixture = Fixture::new(&partner).with_jobs([PAGED]).with_jobs(emails(50)).with_rate(10);
        assert_eq!(fixture.work().await, WorkerEnd::Drained);
        let events = fixture.queue.events();
        let outlier = &events[50];
        assert_eq!((outlier.job_id.as_str(), outlier.attempts), (PAGED, 0));
        assert_eq!((outlier.event_type, outlier.may_have_been_created), expected);
        assert!(outlier.errors.iter().all(|problem| problem.code == "OUTLIER_JOB"));
    }
}
