//! What a payment is to its sender: counted once, or refused with a reason.

use serde_json::{Value, json};

use crate::http::{self, get, pay, post, send, wallet};
use crate::postgres::Postgres;
use crate::replica::Replica;

#[tokio::test]
async fn a_payment_counts_once() {
    let postgres = Postgres::start().await;
    let replica = Replica::ready(&postgres).await;
    let to = replica.address;

    let first = pay(to, "dana", 1250, "order-1").await;
    assert_eq!((first.status, &first.json()["balance_cents"]), (201, &json!(1250)));
    let other = pay(to, "dana", 50, "order-2").await;
    assert_eq!((other.status, &other.json()["balance_cents"]), (201, &json!(1300)));
    let again = pay(to, "dana", 1250, "order-1").await;
    assert_eq!((again.status, again.json()), (200, first.json()), "the same key gives the same result");
    assert_eq!(pay(to, "dana", 1251, "order-1").await.status, 409);
    assert_eq!(pay(to, "eve", 1250, "order-1").await.status, 409);
    assert_eq!(wallet(to, "dana").await, (1300, 2, 2));
    assert_eq!(get(to, "/wallets/eve").await.status, 404);

    let payment = get(to, "/payments/order-1").await.json();
    assert_eq!(payment["user"], "dana");
    assert_eq!((&payment["amount_cents"], &payment["balance_after_cents"]), (&json!(1250), &json!(1250)));
    assert_eq!(payment["times"], 1);
    assert!(payment["succeeded_at"].as_str().unwrap() >= payment["tried_at"].as_str().unwrap());
    assert_eq!(get(to, "/payments/order-3").await.status, 404);
}

#[tokio::test]
async fn wrong_payments_are_refused_with_a_reason_and_leave_nothing() {
    let postgres = Postgres::start().await;
    let replica = Replica::ready(&postgres).await;
    let right = json!({ "user": "dana", "amount_cents": 1, "idempotency_key": "k" });
    for (name, value) in [
        ("amount_cents", json!(0)),
        ("amount_cents", json!(-5)),
        ("amount_cents", json!(1.5)),
        ("amount_cents", json!("1")),
        ("amount_cents", json!(100_000_001)),
        ("amount_cents", json!(9_223_372_036_854_775_808_u64)),
        ("amount_cents", Value::Null),
        ("user", json!("")),
        ("user", json!("<script>")),
        ("user", json!("a".repeat(65))),
        ("user", json!("'; DROP TABLE wallets; --")),
        ("idempotency_key", json!("")),
        ("idempotency_key", json!("a b")),
        ("idempotency_key", json!("a".repeat(129))),
        ("colour", json!("red")),
    ] {
        let mut body = right.clone();
        body[name] = value;
        let answer = post(replica.address, &body).await.unwrap();
        assert!(matches!(answer.status, 400 | 422), "{body}: {}", answer.status);
        assert!(answer.json()["error"].as_str().unwrap().contains(name), "{body}: {}", answer.body);
    }
    for (body, status) in [("{", 400), ("", 400), (&*"x".repeat(20_000), 413)] {
        let answer =
            send(replica.address, "POST", "/payments", "content-type: application/json\r\n", body).await.unwrap();
        assert_eq!(answer.status, status, "{}", answer.body);
    }
    let answer = send(replica.address, "POST", "/payments", "content-type: text/plain\r\n", "{}").await.unwrap();
    assert_eq!(answer.status, 415);
    assert_eq!(send(replica.address, "DELETE", "/payments", "", "").await.unwrap().status, 405);
    assert_eq!(get(replica.address, "/nothing").await.status, 404);
    assert_eq!(postgres.number("SELECT count(*) FROM payments").await, 0);
}

#[tokio::test]
async fn twenty_at_once_with_one_key_pay_once() {
    let postgres = Postgres::start().await;
    let replicas = [Replica::ready(&postgres).await, Replica::ready(&postgres).await];
    for round in 0..15 {
        let key = format!("round-{round}");
        let all = (0..20).map(|n| {
            let (to, key) = (replicas[n % 2].address, key.clone());
            tokio::spawn(async move { pay(to, "dana", 100, &key).await })
        });
        let mut created = 0;
        let mut results = Vec::new();
        for one in all.collect::<Vec<_>>() {
            let answer = one.await.unwrap();
            assert!(matches!(answer.status, 200 | 201), "{}: {}", answer.status, answer.body);
            created += u32::from(answer.status == 201);
            results.push(answer.body);
        }
        assert_eq!(created, 1, "round {round}");
        results.dedup();
        assert_eq!(results.len(), 1, "{results:?}");
        assert_eq!(wallet(replicas[0].address, "dana").await, (100 * (round + 1), round + 1, round + 1));
    }
}

#[tokio::test]
async fn different_payments_to_one_wallet_at_once_all_count() {
    let postgres = Postgres::start().await;
    let replica = Replica::ready(&postgres).await;
    let to = replica.address;
    let all = (0..100).map(|n| tokio::spawn(async move { pay(to, "dana", 1 + n, &format!("k{n}")).await.status }));
    for one in all.collect::<Vec<_>>() {
        assert_eq!(one.await.unwrap(), 201);
    }
    assert_eq!(wallet(to, "dana").await, (5050, 100, 100));
}

#[tokio::test]
async fn the_page_works_as_a_browser_uses_it() {
    let postgres = Postgres::start().await;
    let replica = Replica::ready(&postgres).await;
    let to = replica.address;
    let browser = "content-type: application/x-www-form-urlencoded\r\naccept: text/html,*/*\r\n";

    let page = get(to, "/").await;
    assert_eq!(page.status, 200);
    assert!(page.head.contains("content-security-policy: default-src 'none'"));
    assert!(!page.body.contains("http://") && !page.body.contains("https://"), "no asset from elsewhere");
    let key = page.body.split("name=\"idempotency_key\" value=\"").nth(1).unwrap().split('"').next().unwrap();

    let form = format!("user=dana%2Bhome%40example.org&amount=12%2C50&idempotency_key={key}");
    for _ in 0..2 {
        let paid = send(to, "POST", "/payments", browser, &form).await.unwrap();
        assert_eq!(paid.status, 303, "{}", paid.body);
        assert!(paid.head.contains("location: /?user=dana%2bhome@example.org"), "{}", paid.head);
    }
    let page = get(to, "/?user=dana%2Bhome@example.org").await.body;
    assert!(page.contains("12.50 <small>EUR"), "{page}");
    assert!(page.contains("<b>1</b> payments tried, <b>1</b> succeeded"), "the button was pressed twice: {page}");

    let wrong = send(to, "POST", "/payments", browser, "user=dana&amount=zero&idempotency_key=k").await.unwrap();
    assert_eq!(wrong.status, 400);
    assert!(wrong.body.contains("amount must be a number such as 12 or 12.50"), "{}", wrong.body);
    let odd = get(to, "/?user=%3Cscript%3E").await;
    assert!(odd.status == 400 && !odd.body.contains("<script"), "{}", odd.body);

    // A program may send the form too, and gets JSON.
    let headers = "content-type: application/x-www-form-urlencoded\r\n";
    let paid = send(to, "POST", "/payments", headers, "user=eve&amount_cents=5&idempotency_key=e1").await.unwrap();
    assert_eq!((paid.status, &paid.json()["balance_cents"]), (201, &json!(5)));
    let _: http::Answer = get(to, "/alive").await;
}
