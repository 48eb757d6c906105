-- Enter or refresh the owner's place in line, unless it has a lease: behind all who wait since then, and `seq` tells apart
-- those who wait since the same moment. Who comes new stays behind all others also where the clock was set back.
WITH came AS (
    SELECT CASE WHEN {since} IS NOT NULL THEN least({since}, {now}) ELSE greatest({now}, (
        SELECT max(since) FROM tasklocks_waiters WHERE name = {key} AND away = {away}
    )) END AS since
)
INSERT INTO tasklocks_waiters (name, away, since, seq, ticket, owner, permits, ttl, until, address, info)
SELECT {key}, {away}, came.since,
       coalesce((SELECT max(seq) FROM tasklocks_waiters w
                 WHERE name = {key} AND away = {away} AND w.since = came.since), 0) + 1,
       {ticket}, {owner}, {permits}, {ttl}, {now} + {keep}, {address}, {info}
FROM came
WHERE NOT EXISTS (SELECT FROM tasklocks_leases WHERE name = {key} AND owner = {owner} AND closed = 0)
ON CONFLICT (name, ticket, away) DO UPDATE
SET owner = excluded.owner, permits = excluded.permits, ttl = excluded.ttl, until = excluded.until,
    address = excluded.address, info = excluded.info
