//! List requests for a look-up, by the order of the list.

use super::fake_list::{FakeBench, FakeList, FakeOrder};
use super::*;

/// Number of a user who doesn't exist.
const UNKNOWN_EMAIL: u64 = 10_000_000;

const USERS: u64 = 20_000;

fn bench(order: FakeOrder) -> FakeBench {
    FakeBench::new(FakeList::new(order, USERS, 1))
}

#[tokio::test(start_paused = true)]
async fn a_young_user_of_a_sorted_list_is_found_in_a_request_or_two() {
    for (order, first, later) in [(FakeOrder::Newest, 1, 1), (FakeOrder::Oldest, 2, 1)] {
        let bench = bench(order);
        let user = bench.create(3);
        assert_eq!(bench.look_up_young(user).await, (first, true), "{order:?}");
        for created in [1, 5, 70] {
            let user = bench.create(created);
            assert_eq!(bench.look_up_young(user).await, (later, true), "{order:?} {created}");
        }
        // More than a page was created since.
        let user = bench.create(1_000) - 900;
        let (requests, is_found) = bench.look_up_young(user).await;
        assert!(is_found && requests <= 12, "{order:?} {requests}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_user_costs_a_whole_scan_until_the_order_is_proven() {
    for order in [FakeOrder::Newest, FakeOrder::Oldest] {
        let bench = bench(order);
        let (requests, is_found) = bench.look_up_young(UNKNOWN_EMAIL).await;
        assert!(!is_found && (200..=210).contains(&requests), "{order:?} {requests}");
        bench.create(20);
        sleep(SECOND * 100).await;
        let (requests, is_found) = bench.look_up_young(UNKNOWN_EMAIL).await;
        assert!(!is_found && requests <= 2, "{order:?} {requests}");
        // An older user isn't called missing after a part of the list.
        bench.forget_users();
        assert_eq!(bench.look_up(UNKNOWN_EMAIL, LookUpScope::WholeList).await, LookUpResult::NotFound);
        bench.forget_users();
        assert!(matches!(bench.look_up(7, LookUpScope::WholeList).await, LookUpResult::User(_)));
        bench.forget_users();
        assert!(matches!(bench.look_up(USERS - 7, LookUpScope::WholeList).await, LookUpResult::User(_)));
    }
}

#[tokio::test(start_paused = true)]
async fn growth_at_the_newest_end_proves_the_order_too() {
    for order in [FakeOrder::Newest, FakeOrder::Oldest] {
        let bench = bench(order);
        for _ in 0..2 {
            let user = bench.create(20);
            assert!(bench.look_up_young(user).await.1);
        }
        sleep(SECOND * 100).await;
        let (requests, is_found) = bench.look_up_young(UNKNOWN_EMAIL).await;
        assert!(!is_found && requests <= 2, "{order:?} {requests}");
    }
}

#[tokio::test(start_paused = true)]
async fn growth_elsewhere_makes_a_missing_user_cost_a_whole_scan_again() {
    let bench = bench(FakeOrder::Newest);
    for _ in 0..2 {
        let user = bench.create(20);
        assert!(bench.look_up_young(user).await.1);
    }
    // From now on new users appear in the middle.
    bench.list().order = FakeOrder::NewestInGroups;
    let user = bench.create(1);
    let (_, is_found) = bench.look_up_young(user).await;
    assert!(is_found);
}

#[tokio::test(start_paused = true)]
async fn an_unsorted_list_is_read_page_by_page_without_repeats() {
    for order in [FakeOrder::Scattered, FakeOrder::Shuffled] {
        let bench = bench(order);
        let (requests, is_found) = bench.look_up_young(UNKNOWN_EMAIL).await;
        assert_eq!((requests, is_found), (200, false), "{order:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_largest_page_that_the_api_sends_is_used() {
    let requests = async |cap, limit_max| {
        let mut list = FakeList::new(FakeOrder::Scattered, 1_000, 1);
        (list.cap, list.limit_max) = (cap, limit_max);
        let bench = FakeBench::new(list);
        assert_eq!(bench.look_up(UNKNOWN_EMAIL, LookUpScope::WholeList).await, LookUpResult::NotFound);
        bench.list().requests
    };
    assert_eq!(requests(1_000, u32::MAX).await, 2);
    assert_eq!(requests(50, u32::MAX).await, 20);
    // Two large pages are refused.
    assert_eq!(requests(1_000, 100).await, 22);
}

#[tokio::test(start_paused = true)]
async fn a_user_who_was_read_is_found_at_once() {
    let bench = bench(FakeOrder::Newest);
    let user = bench.create(1);
    assert!(bench.look_up_young(user).await.1);
    assert!(bench.is_cached(user));
    let since = Instant::now();
    assert_eq!(bench.look_up_young(user - 50).await, (0, true));
    assert_eq!(since.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_list_without_times_is_read_from_the_start() {
    let bench = LookUpBench::new(|skip, _| Ok(page(skip, 50, 500)));
    assert_eq!((bench.find(499).await, bench.requests()), (found(499), 10));
}
