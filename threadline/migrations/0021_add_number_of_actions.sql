-- In which transaction an action arrived: whoever follows the timeline misses none that is committed late. The default is one for all rows
-- that are there, so no row is written again.
alter table audit_actions add column if not exists txid bigint default txid_current();
