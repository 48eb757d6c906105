-- Answers with [now, lease] or with [now, null, capacity, usual hold, first end, how many in front, holders].
WITH clock AS MATERIALIZED (SELECT {now} AS now),
mine AS (
    SELECT json_build_array(permits, token) AS lease
    FROM tasklocks_leases WHERE name = {key} AND owner = {owner} AND closed = 0
), seat AS (
    SELECT since, seq FROM tasklocks_waiters WHERE name = {key} AND away = {away} AND ticket = {ticket}
), oldest AS (
    SELECT owner, permits, token, granted, expires - now AS lasts, info
    FROM tasklocks_leases, clock WHERE name = {key} ORDER BY token LIMIT {shown}
)
SELECT CASE WHEN EXISTS (SELECT FROM mine) THEN json_build_array(now, (SELECT lease FROM mine))
ELSE json_build_array(
    now, NULL, capacity, usual_hold,
    (SELECT min(expires) FROM tasklocks_leases WHERE name = {key}),
    (SELECT count(*) FROM tasklocks_waiters
     WHERE name = {key} AND (away, since, seq) < ({away}, coalesce((SELECT since FROM seat), 0), coalesce((SELECT seq FROM seat), 0))),
    (SELECT json_agg(json_build_array(owner, permits, token, granted, lasts, info)) FROM oldest)
) END::text
FROM clock, tasklocks_limits WHERE name = {key}
