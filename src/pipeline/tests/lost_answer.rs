//! The protocol of the lost answer.

use std::time::Duration;

use tokio::time::sleep;

use crate::domain::decide::FoundUser;
use crate::domain::{Answer, EventType, Lane};
use crate::pipeline::tests::fixture::{Fixture, JANE, ScriptedPartner, T0, created, id_of, job, lost, users};
use crate::pipeline::worker::WorkerEnd;
use crate::ports::{ListError, UserListPage};

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_recovered_by_a_look_up() {
    let partner = ScriptedPartner::answering([lost(), Answer::KeyAlreadyUsed])
        .listing([users(&["x@example.com", "y@example.com"], 3, T0), users(&[JANE], 3, T0)]);
    let event = Fixture::with_jane(&partner).event().await;
    assert_eq!((event.event_type, event.recovered), (EventType::Created, true));
    assert_eq!(event.service_id.as_deref(), Some("id-of-jane@example.com"));
    assert_eq!((event.verification_url, event.attempts), (None, 2));
    let sent = partner.sent();
    assert_eq!(sent[0].key, sent[1].key, "a retry has the same key");
}

#[tokio::test(start_paused = true)]
async fn a_used_key_without_a_user_waits_on_the_queue_until_it_expires() {
    let partner = ScriptedPartner::answering([lost(), Answer::KeyAlreadyUsed]);
    let event = Fixture::with_jane(&partner).event().await;
    assert_eq!((event.event_type, event.attempts), (EventType::Created, 3));
    let sent = partner.sent();
    assert!(sent[2].at - sent[1].at >= Duration::from_secs(300), "sent again before the key expired");
}

#[tokio::test(start_paused = true)]
async fn an_existing_email_after_a_lost_answer_is_recovered_unless_older() {
    let old = T0.minus(Duration::from_secs(3_600));
    for (created_at, expected) in [(T0, (EventType::Created, true)), (old, (EventType::Existing, false))] {
        let partner = ScriptedPartner::answering([lost(), Answer::UserExists]).listing([users(&[JANE], 1, created_at)]);
        let event = Fixture::with_jane(&partner).event().await;
        assert_eq!((event.event_type, event.recovered), expected);
        assert_eq!(event.service_id.as_deref(), Some("id-of-jane@example.com"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_that_another_job_created_meanwhile_is_existing() {
    // The first job's request never arrives. The corrected job comes while the first one waits for its key to expire.
    let user = FoundUser { service_id: id_of(JANE), created_at: Some(T0.plus(Duration::from_secs(60))), name: None };
    let listed = UserListPage { users: vec![(JANE.to_owned(), user)], statuses: Vec::new(), unusable: 0, total: 1 };
    let partner = ScriptedPartner::answering([lost(), Answer::KeyAlreadyUsed, created(), Answer::UserExists])
        .listing([Ok(UserListPage::default()), Ok(listed)]);
    let fixture = Fixture::with_jane(&partner);
    let corrected = job(JANE).replace("123 Main", "124 Main");
    let (end, ()) = tokio::join!(fixture.work(), async {
        sleep(Duration::from_secs(60)).await;
        fixture.queue.push(Lane::Bulk, corrected);
    });
    assert_eq!(end, WorkerEnd::Drained);
    let outcomes: Vec<_> = fixture.queue.events().iter().map(|event| (event.event_type, event.recovered)).collect();
    assert_eq!(outcomes, [(EventType::Created, false), (EventType::Existing, false)]);
}

fn failing_list() -> Vec<Result<UserListPage, ListError>> {
    (0..5).map(|_| Err(ListError::Failed("simulated"))).collect()
}

#[tokio::test(start_paused = true)]
async fn a_user_that_existed_at_the_first_request_is_never_recovered() {
    // New enough to be the job's own user, if the first answer hadn't been "user exists".
    let new_user = || users(&[JANE], 1, T0.plus(Duration::from_secs(60)));
    for second in [Answer::KeyAlreadyUsed, Answer::UserExists] {
        let partner = ScriptedPartner::answering([Answer::UserExists, second])
            .listing(failing_list().into_iter().chain([new_user()]));
        let event = Fixture::with_jane(&partner).event().await;
        assert_eq!((event.event_type, event.recovered, event.attempts), (EventType::Existing, false, 2));
        assert_eq!(event.service_id.as_deref(), Some("id-of-jane@example.com"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_refusal_after_a_lost_answer_is_looked_up() {
    let unreadable = || Answer::Rejected { status: 400, code: "HTTP_400".to_owned(), text: String::new() };
    let partner = ScriptedPartner::answering([lost(), unreadable(), unreadable()]).listing([users(&[JANE], 1, T0)]);
    let event = Fixture::with_jane(&partner).event().await;
    assert_eq!((event.event_type, event.recovered), (EventType::Created, true));
    let partner = ScriptedPartner::answering([unreadable()]);
    let event = Fixture::with_jane(&partner).event().await;
    assert_eq!((event.event_type, partner.sent().len()), (EventType::Rejected, 1));
}
