-- Extend the owner's lease, or make one if enough is free and nobody listens in front. Whose place is kept is served
-- from there.
WITH room AS (
    SELECT l.capacity - coalesce(sum(h.permits), 0) AS free,
           greatest(l.token, max(h.token), ({now} * 1e6)::bigint - 1) AS last,
           bool_or(h.owner = {owner}) IS TRUE AS mine
    FROM tasklocks_limits l LEFT JOIN tasklocks_leases h ON h.name = l.name WHERE l.name = {key} GROUP BY l.id
), extended AS (
    UPDATE tasklocks_leases SET expires = {now} + {ttl} WHERE name = {key} AND owner = {owner} AND closed = 0
), given AS (
    INSERT INTO tasklocks_leases (name, owner, permits, token, granted, expires, closed, info)
    SELECT {key}, {owner}, {permits}, last + 1, {now}, {now} + {ttl}, 0, {info} FROM room
    WHERE NOT mine AND free >= {permits}
      AND NOT EXISTS (SELECT FROM tasklocks_waiters w WHERE w.name = {key} AND w.away = 0
                      AND (w.since <= coalesce({since}, 'infinity'::float8) OR w.ticket = {owner}))
    RETURNING 1
)
DELETE FROM tasklocks_waiters WHERE name = {key} AND ticket = {ticket} AND EXISTS (SELECT FROM given)
