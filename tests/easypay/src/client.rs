//! The client that proves from outside what EasyPay promises: `pay` makes a load and writes a ledger, `verify` reads the
//! ledger back. Neither shares code with the server but the HTTP library.

pub mod http;
pub mod ledger;
pub mod pay;
pub mod resolve;
pub mod verify;
