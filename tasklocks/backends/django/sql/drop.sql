-- Drop leases and places whose time is over; the limit keeps the largest token of the leases.
-- The clock is read in a query of its own, so that an index finds what is over.
WITH over AS (
    DELETE FROM tasklocks_leases WHERE name = ANY ({keys}) AND expires <= (SELECT {now}) RETURNING name, token
), lapsed AS (
    DELETE FROM tasklocks_waiters WHERE name = ANY ({keys}) AND until <= (SELECT {now})
)
UPDATE tasklocks_limits AS l SET token = greatest(l.token, o.token), used_at = {now}
FROM (SELECT name, max(token) AS token FROM over GROUP BY name) AS o WHERE l.name = o.name
