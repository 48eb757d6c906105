-- Lock some limits that seem to be idle, if nobody works on them. Answers with their names.
-- What is seen here was true before the lock was given; `forget` looks again.
SELECT json_agg(name)::text FROM (
    SELECT name FROM tasklocks_limits
    WHERE used_at < {now} - {retention} AND pg_try_advisory_xact_lock(hashtextextended(name, 0)) LIMIT 500
) AS old
