-- Forget limits that were idle for so long, with what killed processes left in them.
WITH idle AS (
    DELETE FROM tasklocks_limits l
    WHERE l.name = ANY ({keys}) AND l.used_at < {now} - {retention}
      AND NOT EXISTS (SELECT FROM tasklocks_leases h WHERE h.name = l.name AND h.expires > {now})
      AND NOT EXISTS (SELECT FROM tasklocks_waiters w WHERE w.name = l.name AND w.until > {now})
    RETURNING name
), leases AS (
    DELETE FROM tasklocks_leases h USING idle WHERE h.name = idle.name
)
DELETE FROM tasklocks_waiters w USING idle WHERE w.name = idle.name
