-- An action that the pipeline has projected has its own id as its correlation id, and is found by it. So the index of correlation ids has the
-- others alone: a projected action costs one entry less, in an order in which nothing else is written. As in 0019, over a large table it
-- is built beforehand.
create index if not exists audit_actions_correlation_idx on audit_actions (correlation_id) where correlation_id <> id::text;
