//! What a payment is. Values of these types cannot be wrong: everything from outside is parsed into them first.

use std::fmt;

/// Why a value from outside is no part of a payment. The text is for the person who sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("user must be 1 to 64 letters, digits or any of . _ - @ +")]
    User,
    #[error("idempotency_key must be 1 to 128 letters, digits or any of . _ - :")]
    Key,
    #[error("amount_cents must be from 1 to {}", Cents::MOST)]
    Cents,
    #[error("amount must be a number such as 12 or 12.50, from 0.01 to {}", Cents(Cents::MOST))]
    Amount,
}

/// Whose wallet it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User(String);

/// The idempotency key that the payer chose: one key is one payment, however often it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(String);

/// An amount of money in hundredths of the currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cents(i64);

/// A payment as asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    pub key: Key,
    pub user: User,
    pub amount: Cents,
}

fn made_of(text: &str, most: usize, marks: &[u8]) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || marks.contains(&b))
}

impl TryFrom<String> for User {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        if made_of(&text, 64, b"._-@+") { Ok(Self(text)) } else { Err(Invalid::User) }
    }
}

impl TryFrom<String> for Key {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        if made_of(&text, 128, b"._-:") { Ok(Self(text)) } else { Err(Invalid::Key) }
    }
}

impl Key {
    /// A key nobody else has.
    pub fn random() -> Self {
        Self(format!("{:032x}", rand::random::<u128>()))
    }
}

impl User {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Key {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<i64> for Cents {
    type Error = Invalid;
    fn try_from(cents: i64) -> Result<Self, Invalid> {
        if (1..=Self::MOST).contains(&cents) { Ok(Self(cents)) } else { Err(Invalid::Cents) }
    }
}

impl Cents {
    /// A million a payment; a typing error is likelier than a larger one.
    pub const MOST: i64 = 100_000_000;

    pub fn get(self) -> i64 {
        self.0
    }

    /// Reads what people type: `12`, `12.5`, `12,50`. Never by way of a floating-point number.
    ///
    /// # Errors
    /// More than two decimals, signs, grouping, zero, more than [`Cents::MOST`].
    pub fn from_decimal(text: &str) -> Result<Self, Invalid> {
        let (whole, part) = text.trim().split_once(['.', ',']).unwrap_or((text.trim(), "00"));
        let digits = |t: &str, most| (1..=most).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole, 9) || !digits(part, 2) {
            return Err(Invalid::Amount);
        }
        format!("{whole}{part:0<2}").parse::<i64>().ok().and_then(|c| Self::try_from(c).ok()).ok_or(Invalid::Amount)
    }
}

impl fmt::Display for Cents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&decimal(self.0))
    }
}

/// Cents with two decimals: `1234.05`.
pub fn decimal(cents: i64) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", cents.unsigned_abs() / 100, cents.unsigned_abs() % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_as_typed() {
        for (text, cents) in [("12", 1200), ("12.5", 1250), (" 12,50 ", 1250), ("0.01", 1), ("1000000", Cents::MOST)] {
            assert_eq!(Cents::from_decimal(text), Ok(Cents(cents)), "{text}");
        }
        for text in
            ["", ".", ".5", "5.", "0", "0.00", "-1", "+1", "1e3", "1.005", "1 000", "1000000.01", "١", "9999999999"]
        {
            assert_eq!(Cents::from_decimal(text), Err(Invalid::Amount), "{text}");
        }
        assert_eq!(decimal(123_405), "1234.05");
        assert_eq!(decimal(-5), "-0.05");
    }

    #[test]
    fn limits() {
        assert!(
            Cents::try_from(0).is_err() && Cents::try_from(-1).is_err() && Cents::try_from(Cents::MOST + 1).is_err()
        );
        assert!(User::try_from("a".repeat(65)).is_err() && User::try_from(String::new()).is_err());
        assert!(User::try_from("<b>".to_owned()).is_err() && User::try_from("dana@example.org".to_owned()).is_ok());
        assert!(Key::try_from("a b".to_owned()).is_err() && Key::try_from("a".repeat(128)).is_ok());
        assert_ne!(Key::random(), Key::random());
    }
}
