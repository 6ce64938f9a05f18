//! The page: plain HTML with its style inside, no script, nothing loaded from elsewhere.

use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};

use crate::payment::{Key, User, decimal};
use crate::store::{Recorded, Totals, Wallet};

const STYLE: &str = include_str!("style.css");
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Where a user's page is.
pub fn address(user: &User) -> String {
    // Of the characters a user may have, only + means something else in a query.
    format!("/?user={}", user.as_str().replace('+', "%2B"))
}

/// The front page of somebody not known yet.
pub fn of_all(currency: &str, totals: Totals) -> Response {
    let body = format!(
        "<section><h2>All wallets</h2><div class=\"balance\">{} <small>wallets</small></div>{}</section>{}{}",
        totals.wallets,
        counts(totals.tried, totals.succeeded),
        look_up(),
        add_money(currency, None),
    );
    page(StatusCode::OK, "EasyPay", &body)
}

/// A user's wallet and newest payments.
pub fn of_user(currency: &str, user: &User, wallet: Option<Wallet>, payments: &[Recorded]) -> Response {
    let name = escape(user.as_str());
    let nothing = Wallet { balance_cents: 0, tried: 0, succeeded: 0, succeeded_cents: 0 };
    let wallet = wallet.unwrap_or(nothing);
    let rows: String = payments.iter().map(|payment| row(currency, payment)).collect();
    let list = if rows.is_empty() {
        "<p class=\"empty\">No payment yet. Add money to open this wallet.</p>".to_owned()
    } else {
        format!("<table>{rows}</table>")
    };
    let body = format!(
        "<section><h2>Balance of {name}</h2><div class=\"balance\">{} <small>{currency}</small></div>{}</section>{}\
         <section><h2>Last payments</h2>{list}</section>{}",
        decimal(wallet.balance_cents),
        counts(wallet.tried, wallet.succeeded),
        add_money(currency, Some(user)),
        look_up(),
    );
    page(StatusCode::OK, &format!("{name} · EasyPay"), &body)
}

/// Why there is nothing to show, with the form so that one can go on.
pub fn failed(currency: &str, user: Option<&User>, status: StatusCode, message: &str) -> Response {
    let back = user.map_or(String::new(), |user| {
        format!(". <a href=\"{}\">Back to {}</a>", escape(&address(user)), escape(user.as_str()))
    });
    let body = format!(
        "<section class=\"notice\" role=\"alert\">Sorry: {}{back}</section>{}{}",
        escape(message),
        add_money(currency, user),
        look_up(),
    );
    page(status, "EasyPay", &body)
}

fn counts(tried: i64, succeeded: i64) -> String {
    format!("<p class=\"counts\"><b>{tried}</b> payments tried, <b>{succeeded}</b> succeeded</p>")
}

fn row(currency: &str, payment: &Recorded) -> String {
    let (class, state) = match payment.succeeded_at {
        Some(_) => ("state", "succeeded"),
        None => ("state tried", "tried"),
    };
    // 2026-11-22T09:41:10.123Z, to the second.
    let when = payment.tried_at.get(..19).unwrap_or(&payment.tried_at).replace('T', " ");
    format!(
        "<tr><td class=\"when\">{} UTC</td><td class=\"amount\">{} {currency}</td><td class=\"{class}\">{state}</td></tr>",
        escape(&when),
        decimal(payment.amount_cents),
    )
}

/// A key comes with the form, so that pressing the button twice pays once.
fn add_money(currency: &str, user: Option<&User>) -> String {
    format!(
        "<section><h2>Add money</h2><form method=\"post\" action=\"/payments\">\
         <input type=\"hidden\" name=\"idempotency_key\" value=\"{}\">\
         <label>User <input name=\"user\" required maxlength=\"64\" autocomplete=\"username\" value=\"{}\"></label>\
         <label>Amount in {currency} <input name=\"amount\" required inputmode=\"decimal\" placeholder=\"25.00\"></label>\
         <button>Add money</button></form></section>",
        Key::random().as_str(),
        user.map_or(String::new(), |user| escape(user.as_str())),
    )
}

fn look_up() -> String {
    "<section><h2>See a wallet</h2><form method=\"get\" action=\"/\">\
     <label>User <input name=\"user\" required maxlength=\"64\"></label>\
     <button class=\"quiet\">Show balance</button></form></section>"
        .to_owned()
}

fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><style>{STYLE}</style></head>\
         <body><main><header><h1><a href=\"/\">EasyPay</a></h1></header>{body}</main></body></html>\n"
    );
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, Html(html)).into_response()
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
