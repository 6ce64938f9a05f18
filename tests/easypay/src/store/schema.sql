-- Run by every replica at its start, in one transaction: the lock keeps two of them from colliding, and running it again
-- changes nothing. Columns are only ever added, because old and new replicas serve side by side during an update.
SELECT pg_advisory_xact_lock(4921507216);

CREATE TABLE IF NOT EXISTS wallets (
    user_name     text PRIMARY KEY,
    balance_cents bigint NOT NULL CHECK (balance_cents >= 0)
);

-- One row for each payment that was tried; it has succeeded when succeeded_at is set.
CREATE TABLE IF NOT EXISTS payments (
    key                 text PRIMARY KEY,
    id                  bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    user_name           text NOT NULL,
    amount_cents        bigint NOT NULL CHECK (amount_cents > 0),
    tried_at            timestamptz NOT NULL DEFAULT now(),
    succeeded_at        timestamptz,
    balance_after_cents bigint,
    CHECK ((succeeded_at IS NULL) = (balance_after_cents IS NULL))
);

CREATE INDEX IF NOT EXISTS payments_by_user ON payments (user_name, id DESC);
