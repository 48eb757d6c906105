-- End the lease of {owner}, or every lease of the limit if that is null. Answers with how many were ended.
WITH gone AS (
    DELETE FROM tasklocks_leases WHERE name = {key} AND ({owner} IS NULL OR owner = {owner}) RETURNING token
), noted AS (
    UPDATE tasklocks_limits SET token = greatest(token, (SELECT max(token) FROM gone)), used_at = {now}
    WHERE name = {key}
)
SELECT count(*)::text FROM gone
