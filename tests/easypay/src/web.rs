//! The routes. Programs send JSON and get JSON; a browser's form gets a page or a redirect.
//!
//! - `GET /`, `GET /?user=U`: the page.
//! - `POST /payments {user, amount_cents, idempotency_key}`: 201 `{id, balance_cents}`; the same again 200 with the same
//!   result; the same key for something else 409; what is no payment 400 or 422; a database that stays away 503.
//! - `GET /wallets/U`: balance, payments tried and succeeded. `GET /payments/KEY`: what became of a payment.
//! - `GET /ready`: whether requests are to be sent here, which is whether a payment would be served.
//!   `GET /alive`: whether the process answers at all.
//!
//! Nobody logs in: who may use which wallet is left out on purpose, since the application is there to be run, not to be
//! trusted with money.

mod page;

use std::sync::Arc;

use axum::extract::{Form, FromRequest as _, Json, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Router, extract::DefaultBodyLimit};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{Semaphore, watch};

use crate::payment::{Cents, Invalid, Key, Payment, User};
use crate::store::{Paid, Store, StoreError, chain};

const PAYMENTS_SHOWN: i64 = 12;
/// Requests that may wait for the database: 100 a second for the five seconds of their patience, at 40 KiB each.
const AT_ONCE: usize = 500;

/// What the handlers share.
#[derive(Clone)]
pub struct App {
    pub store: Store,
    pub currency: Arc<str>,
    /// Whether this replica was told to end.
    pub leaving: watch::Receiver<bool>,
}

/// All routes.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/", get(front))
        .route("/payments", post(pay))
        .route("/payments/{key}", get(payment))
        .route("/wallets/{user}", get(wallet))
        .route_layer(middleware::from_fn_with_state(Arc::new(Semaphore::new(AT_ONCE)), in_its_place))
        .route("/ready", get(ready))
        .route("/alive", get(async || "alive\n"))
        .fallback(async || Failure::new(StatusCode::NOT_FOUND, "there is nothing at this address"))
        .method_not_allowed_fallback(async || Failure::new(StatusCode::METHOD_NOT_ALLOWED, "not with this method"))
        .layer(DefaultBodyLimit::max(16 * 1024))
        .layer(middleware::from_fn_with_state(app.clone(), close_when_leaving))
        .with_state(app)
}

/// While the database is away requests pile up, and a front end that runs out of memory would lose all of them.
async fn in_its_place(State(places): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    match places.try_acquire() {
        Ok(_place) => next.run(request).await,
        Err(_) => Failure::new(StatusCode::SERVICE_UNAVAILABLE, "too many requests are waiting here").into_response(),
    }
}

/// Kept-alive connections have to find another replica before this one is gone.
async fn close_when_leaving(State(app): State<App>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if *app.leaving.borrow() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// An answer that says why not.
pub struct Failure {
    status: StatusCode,
    message: String,
}

impl Failure {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
}

impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Self {
        Self::new(StatusCode::BAD_REQUEST, invalid.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::OtherPayment => Self::new(StatusCode::CONFLICT, error.to_string()),
            StoreError::Away(_) => {
                let message =
                    "the database does not answer; send the same payment with the same key again later, it counts once";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
            }
            StoreError::Refused(_) => {
                tracing::error!(error = chain(&error), "request failed");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "something is wrong here; it has been noted")
            }
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "error": self.message }))).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

async fn ready(State(app): State<App>) -> (StatusCode, &'static str) {
    if *app.leaving.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "leaving\n");
    }
    if app.store.serves() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n")
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PaymentBody {
    user: String,
    amount_cents: i64,
    idempotency_key: String,
}

#[derive(Deserialize)]
struct PaymentForm {
    user: String,
    amount: Option<String>,
    amount_cents: Option<i64>,
    idempotency_key: String,
}

impl TryFrom<PaymentBody> for Payment {
    type Error = Invalid;
    fn try_from(body: PaymentBody) -> Result<Self, Invalid> {
        Ok(Self {
            key: body.idempotency_key.try_into()?,
            user: body.user.try_into()?,
            amount: body.amount_cents.try_into()?,
        })
    }
}

impl TryFrom<PaymentForm> for Payment {
    type Error = Invalid;
    fn try_from(form: PaymentForm) -> Result<Self, Invalid> {
        let amount = match (form.amount_cents, form.amount) {
            (Some(cents), _) => cents.try_into()?,
            (None, Some(typed)) => Cents::from_decimal(&typed)?,
            (None, None) => return Err(Invalid::Amount),
        };
        Ok(Self { key: form.idempotency_key.try_into()?, user: form.user.trim().to_owned().try_into()?, amount })
    }
}

async fn pay(State(app): State<App>, request: Request) -> Response {
    let form = has(request.headers(), &header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let browser = form && has(request.headers(), &header::ACCEPT, "text/html");
    let payment = match read_payment(request, form).await {
        Ok(payment) => payment,
        Err(failure) if browser => return page::failed(&app.currency, None, failure.status, &failure.message),
        Err(failure) => return failure.into_response(),
    };
    // In a task of its own: a client that hangs up must not stop a payment half-way, although that would be safe.
    let (store, user) = (app.store.clone(), payment.user.clone());
    let paid = tokio::spawn(async move { store.pay(&payment).await }).await;
    let paid = paid.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    match paid {
        Ok(_) if browser => Redirect::to(&page::address(&user)).into_response(),
        Ok(Paid::Now(receipt)) => (StatusCode::CREATED, Json(receipt)).into_response(),
        Ok(Paid::Before(receipt)) => (StatusCode::OK, Json(receipt)).into_response(),
        Err(error) => {
            let failure = Failure::from(error);
            if browser {
                page::failed(&app.currency, Some(&user), failure.status, &failure.message)
            } else {
                failure.into_response()
            }
        }
    }
}

fn has(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.to_ascii_lowercase().contains(wanted))
}

async fn read_payment(request: Request, form: bool) -> Result<Payment, Failure> {
    let payment = if form {
        let body = Form::<PaymentForm>::from_request(request, &()).await;
        body.map_err(|why| Failure::new(why.status(), why.body_text()))?.0.try_into()?
    } else {
        let body = Json::<PaymentBody>::from_request(request, &()).await;
        body.map_err(|why| Failure::new(why.status(), why.body_text()))?.0.try_into()?
    };
    Ok(payment)
}

async fn payment(State(app): State<App>, Path(key): Path<String>) -> Result<Response, Failure> {
    let found = app.store.payment(&Key::try_from(key)?).await?;
    let found = found.ok_or_else(|| Failure::new(StatusCode::NOT_FOUND, "no payment was tried with this key"))?;
    Ok(Json(found).into_response())
}

async fn wallet(State(app): State<App>, Path(user): Path<String>) -> Result<Response, Failure> {
    let user = User::try_from(user)?;
    let found = app.store.wallet(&user).await?;
    let found = found.ok_or_else(|| Failure::new(StatusCode::NOT_FOUND, "this user has no wallet yet"))?;
    Ok(Json(json!({
        "user": user.as_str(),
        "currency": &*app.currency,
        "balance_cents": found.balance_cents,
        "tried": found.tried,
        "succeeded": found.succeeded,
        "succeeded_cents": found.succeeded_cents,
    }))
    .into_response())
}

#[derive(Deserialize)]
struct FrontQuery {
    user: Option<String>,
}

async fn front(State(app): State<App>, Query(query): Query<FrontQuery>) -> Response {
    let asked = query.user.map(|user| user.trim().to_owned()).filter(|user| !user.is_empty());
    let user = match asked.map(User::try_from).transpose() {
        Ok(user) => user,
        Err(invalid) => return page::failed(&app.currency, None, StatusCode::BAD_REQUEST, &invalid.to_string()),
    };
    let shown = match &user {
        Some(user) => match app.store.history(user, PAYMENTS_SHOWN).await {
            Ok((wallet, payments)) => Ok(page::of_user(&app.currency, user, wallet, &payments)),
            Err(error) => Err(error),
        },
        None => app.store.totals().await.map(|totals| page::of_all(&app.currency, totals)),
    };
    shown.unwrap_or_else(|error| {
        let failure = Failure::from(error);
        page::failed(&app.currency, user.as_ref(), failure.status, &failure.message)
    })
}
