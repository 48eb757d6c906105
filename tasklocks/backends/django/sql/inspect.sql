-- Answers with [capacity, usual hold, holders, waiters].
SELECT json_build_array(
    (SELECT capacity FROM tasklocks_limits WHERE name = {key}),
    (SELECT usual_hold FROM tasklocks_limits WHERE name = {key}),
    (SELECT json_agg(json_build_array(owner, permits, token, granted, expires - now, info) ORDER BY token)
     FROM tasklocks_leases WHERE name = {key} AND expires > now),
    (SELECT json_agg(json_build_array(ticket, permits, since, away, info) ORDER BY away, seq)
     FROM tasklocks_waiters WHERE name = {key} AND until > now)
)::text FROM (SELECT {now} AS now OFFSET 0) AS clock
