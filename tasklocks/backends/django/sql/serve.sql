-- Grant free permits to the listening waiters at the head of the line, in order, until one does not fit, and tell
-- them. All need at least one permit, so there are never more of them to look at than permits are free; and those who
-- fit are those up to whom the sum of permits is not above that. They hear of it when the transaction is committed.
WITH room AS (
    SELECT l.name, l.capacity - coalesce(sum(h.permits), 0) AS free,
           greatest(l.token, max(h.token), ({now} * 1e6)::bigint - 1) AS last
    FROM tasklocks_limits l LEFT JOIN tasklocks_leases h ON h.name = l.name
    WHERE l.name = ANY ({keys})
      AND (SELECT true FROM tasklocks_waiters w WHERE w.name = l.name AND w.away = 0 LIMIT 1)
    GROUP BY l.id
), line AS (
    SELECT w.*, free,
           sum(permits) OVER (PARTITION BY w.name ORDER BY since, seq) AS needed,
           last + row_number() OVER (PARTITION BY w.name ORDER BY since, seq) AS token
    FROM room CROSS JOIN LATERAL (
        SELECT * FROM tasklocks_waiters WHERE name = room.name AND away = 0 ORDER BY since, seq LIMIT greatest(free, 0)
    ) AS w
), served AS (
    SELECT name, owner, permits, ttl, address, info, token FROM line WHERE needed <= free
), gone AS (
    DELETE FROM tasklocks_waiters w USING served s WHERE w.name = s.name AND w.ticket = s.owner
), given AS (
    INSERT INTO tasklocks_leases AS h (name, owner, permits, token, granted, expires, closed, info)
    SELECT name, owner, permits, token, {now}, {now} + least(ttl, {grant_ttl}), 0, info FROM served
    ON CONFLICT (name, owner) DO UPDATE
    SET permits = excluded.permits, token = excluded.token, granted = excluded.granted, expires = excluded.expires,
        closed = 0, info = excluded.info
    RETURNING h.name, h.owner, h.permits, h.token, h.expires
)
SELECT pg_notify(
    split_part(s.address, '.', 1),
    concat_ws(' ', split_part(s.address, '.', 2), g.token, g.expires, g.permits, g.name)
)
FROM given g JOIN served s ON s.name = g.name AND s.owner = g.owner WHERE s.address <> ''
