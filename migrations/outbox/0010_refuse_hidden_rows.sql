-- Both see every row or fail. Where a policy hides rows from the owner too (`force row level security`), what has not been
-- delivered would otherwise not hold a clean-up.
alter function outbox.undelivered_rows(timestamptz) set row_security = off;
alter function outbox.safe_before() set row_security = off;
