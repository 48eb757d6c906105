-- Enter or refresh the owner's place in line, unless it has a lease.
INSERT INTO tasklocks_waiters (name, away, seq, ticket, since, owner, permits, ttl, until, address, info)
SELECT {key}, {away},
       coalesce((SELECT max(seq) FROM tasklocks_waiters WHERE name = {key} AND away = {away}), 0) + 1,
       {ticket}, {now}, {owner}, {permits}, {ttl}, {now} + {keep}, {address}, {info}
WHERE NOT EXISTS (SELECT FROM tasklocks_leases WHERE name = {key} AND owner = {owner} AND closed = 0)
ON CONFLICT (name, ticket, away) DO UPDATE
SET owner = excluded.owner, permits = excluded.permits, ttl = excluded.ttl, until = excluded.until,
    address = excluded.address, info = excluded.info
