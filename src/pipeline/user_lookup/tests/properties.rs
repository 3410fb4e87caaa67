//! What holds for every list: no user who is listed is called missing, and no one is found under another email.

use super::fake_list::{FakeBench, FakeList, FakeOrder};
use super::*;

const SEEDS: u64 = 150;

/// What the test expects of a look-up.
struct Asked {
    n: u64,
    scope: LookUpScope,
    is_listed: bool,
}

/// Chooses a user to look up: a young one, an old one, one who isn't listed yet, or one who doesn't exist.
fn ask(list: &mut FakeList, rng: &mut fastrand::Rng) -> Asked {
    let lag = SECOND * rng.u32(0..3) * 20;
    let n = match rng.u8(0..4) {
        0 => list.create(lag),
        1 => rng.u64(0..list.users.len() as u64),
        2 => list.users.len() as u64 - 1 - rng.u64(0..list.users.len().min(30) as u64),
        _ => 10_000_000,
    };
    let after = list.now().minus(SECOND * rng.u32(1..600));
    let scope = if rng.bool() { LookUpScope::WholeList } else { LookUpScope::CreatedAfter(after) };
    let user = list.users.get(usize::try_from(n).unwrap());
    let is_in_scope = |created_at| scope == LookUpScope::WholeList || created_at > after;
    let is_listed = user.is_some_and(|user| user.listed_at <= Instant::now() && is_in_scope(user.created_at));
    Asked { n, scope, is_listed }
}

async fn check(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let order = FakeOrder::ALL[rng.usize(..FakeOrder::ALL.len())];
    let mut list = FakeList::new(order, rng.u64(1..150), seed);
    list.cap = [1, 2, 3, 10, 50, 100][rng.usize(..6)];
    list.grows = if list.cap >= 10 { [0, 1, 3][rng.usize(..3)] } else { 0 };
    list.limit_max = if rng.u8(0..4) == 0 { 100 } else { u32::MAX };
    let bench = FakeBench::new(list);
    for _ in 0..8 {
        let asked: Vec<Asked> = (0..rng.usize(1..4)).map(|_| ask(&mut bench.list(), &mut rng)).collect();
        let answers = asked.iter().map(|Asked { n, scope, .. }| bench.look_up(*n, *scope));
        let answers = futures_util::future::join_all(answers).await;
        for (Asked { n, scope, is_listed }, answer) in asked.iter().zip(answers) {
            match answer {
                LookUpResult::User(found) => {
                    assert_eq!(found.service_id, user(*n).1.service_id, "seed {seed} {order:?}");
                }
                LookUpResult::NotFound => assert!(!is_listed, "seed {seed} {order:?}: {n} is missing in {scope:?}"),
                LookUpResult::OtherUser(_) | LookUpResult::Unavailable => {}
            }
        }
        sleep(SECOND * rng.u32(0..60)).await;
        if rng.u8(0..4) == 0 {
            bench.forget_users();
        }
        (0..rng.u64(0..25)).for_each(|_| _ = bench.create(1));
        let mut list = bench.list();
        if rng.u8(0..8) == 0 {
            (list.cap, list.grows) = ([2, 7, 50][rng.usize(..3)], 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_listed_user_is_called_missing_whatever_the_order() {
    for seed in 0..SEEDS {
        check(seed).await;
    }
}
