use std::collections::VecDeque;

use super::*;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A limit with this many creations in flight, and the time at which they were sent.
fn with_in_flight(most: usize, in_flight: usize) -> (InFlightLimit, VecDeque<u64>, Instant) {
    let now = Instant::now();
    let mut limit = InFlightLimit::new(most);
    let numbers = (0..in_flight).map(|_| limit.sent(now)).collect();
    (limit, numbers, now)
}

fn answer(limit: &mut InFlightLimit, number: u64, now: Instant) {
    let creation = limit.ended(number).unwrap();
    limit.answered(creation, now);
}

fn lose(limit: &mut InFlightLimit, number: u64, now: Instant) -> bool {
    let creation = limit.ended(number).unwrap();
    limit.lost(creation, now)
}

/// Loses creations, and sends others for as long as there is room. Returns how many were lost in all.
fn lost_in_an_outage(limit: &mut InFlightLimit, mut in_flight: VecDeque<u64>, now: Instant) -> usize {
    let (mut lost, mut is_over) = (0, false);
    while let Some(number) = in_flight.pop_front() {
        is_over = lose(limit, number, now);
        lost += 1;
        while limit.has_room(now) {
            assert!(!is_over, "the streak has cost what it may, and more would be sent");
            in_flight.push_back(limit.sent(now));
        }
    }
    assert!(is_over, "nothing is in flight, and the circuit breaker doesn't open");
    lost
}

#[tokio::test]
async fn an_outage_costs_what_was_in_flight_at_its_begin_and_at_most_four_more() {
    for (most, in_flight) in [(64, 0), (64, 1), (64, 10), (64, 60), (64, 64), (4, 4), (1, 1)] {
        let bound = most.max(LOSSES_MORE).min(in_flight + LOSSES_MORE);
        // All of them are lost at once.
        let (mut limit, numbers, now) = with_in_flight(most, in_flight);
        if in_flight > 0 {
            let lost = lost_in_an_outage(&mut limit, numbers, now);
            assert!((in_flight..=bound).contains(&lost), "{lost} of {in_flight} in flight, {most} at most");
        }
        // They are answered, and all that are sent from then on are lost.
        let (mut limit, numbers, now) = with_in_flight(most, in_flight);
        let sent: VecDeque<u64> = (in_flight..most).map(|_| limit.sent(now)).take(1).collect();
        numbers.into_iter().for_each(|number| answer(&mut limit, number, now));
        let sent = if sent.is_empty() { VecDeque::from([limit.sent(now)]) } else { sent };
        let lost = lost_in_an_outage(&mut limit, sent, now);
        assert!(lost <= bound, "{lost} after {in_flight} in flight, {most} at most");
    }
}

#[tokio::test]
async fn losses_in_a_row_halve_what_may_be_in_flight_and_answers_restore_it_step_by_step() {
    let (mut limit, mut numbers, now) = with_in_flight(64, 20);
    let mut allowed = Vec::new();
    for _ in 0..8 {
        lose(&mut limit, numbers.pop_front().unwrap(), now);
        allowed.push(limit.allowed(now));
    }
    assert_eq!(allowed, [64, 32, 16, 8, 4, 2, 1, 1]);
    for expected in [5, 9, 13] {
        answer(&mut limit, numbers.pop_front().unwrap(), now);
        assert_eq!(limit.allowed(now), expected);
    }
    assert_eq!(limit.losses_in_a_row(now), 0);
    for _ in 0..60 {
        let number = limit.sent(now);
        answer(&mut limit, number, now);
    }
    assert_eq!(limit.allowed(now), 64);
}

#[tokio::test]
async fn an_api_that_loses_every_tenth_answer_keeps_most_of_its_requests_in_flight() {
    let (mut limit, mut numbers, now) = with_in_flight(64, 0);
    let mut rng = fastrand::Rng::with_seed(1);
    let (mut in_flight_sum, answers) = (0, 100_000);
    for _ in 0..answers {
        while limit.has_room(now) {
            numbers.push_back(limit.sent(now));
        }
        in_flight_sum += numbers.len();
        let number = numbers.remove(rng.usize(..numbers.len())).unwrap();
        if rng.u32(..10) == 0 {
            assert!(!lose(&mut limit, number, now));
        } else {
            answer(&mut limit, number, now);
        }
    }
    assert!(in_flight_sum as f64 > 0.97 * 64.0 * f64::from(answers), "{}", in_flight_sum / 100_000);
}

#[tokio::test]
async fn creations_that_take_too_long_count_as_lost_until_one_is_answered() {
    let (mut limit, mut numbers, sent_at) = with_in_flight(64, 5);
    let mut now = sent_at + ms(50);
    for number in numbers.drain(..) {
        answer(&mut limit, number, now);
    }
    // Ten times the median is half a second, and a second is the least.
    let hanging: Vec<u64> = (0..20)
        .map(|_| {
            now += ms(50);
            assert!(limit.has_room(now));
            limit.sent(now)
        })
        .collect();
    assert_eq!(limit.losses_in_a_row(now), 0);
    now += ms(100);
    assert_eq!((limit.has_room(now), limit.losses_in_a_row(now)), (false, 2));
    now += ms(5_000);
    assert_eq!((limit.has_room(now), limit.losses_in_a_row(now), limit.allowed(now)), (false, 20, 1));
    answer(&mut limit, hanging[0], now);
    assert_eq!((limit.losses_in_a_row(now), limit.allowed(now)), (0, 5), "the others took too long before the answer");
}

#[tokio::test]
async fn the_largest_number_in_flight_bounds_what_hanging_creations_cost() {
    let (mut limit, numbers, now) = with_in_flight(64, 64);
    assert!(!limit.has_room(now));
    for number in numbers {
        lose(&mut limit, number, now);
        assert!(!limit.has_room(now), "a slot that timed out is not used again");
    }
}

#[tokio::test]
async fn a_streak_is_forgotten_when_nothing_was_sent_for_long() {
    let (mut limit, numbers, now) = with_in_flight(64, 3);
    for number in numbers {
        lose(&mut limit, number, now);
    }
    assert_eq!(limit.losses_in_a_row(now), 3);
    let later = now + FORGOTTEN_AFTER;
    assert_eq!((limit.losses_in_a_row(later), limit.has_room(later)), (0, true));
}
