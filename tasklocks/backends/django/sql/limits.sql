-- Answers with the last id, how many were looked at, and those of the prefix: [name, capacity, usual hold, holders, waiters].
SELECT json_build_array(max(id), count(*), json_agg(json_build_array(
    coalesce(full_name, name), capacity, usual_hold,
    (SELECT json_agg(json_build_array(owner, permits, token, granted, expires - now, info) ORDER BY token)
     FROM tasklocks_leases h WHERE h.name = l.name AND expires > now),
    (SELECT json_agg(json_build_array(ticket, permits, since, away, info) ORDER BY away, since, seq)
     FROM tasklocks_waiters w WHERE w.name = l.name AND until > now)
)) FILTER (WHERE starts_with(name, {prefix})))::text
FROM (SELECT {now} AS now OFFSET 0) AS clock, (SELECT * FROM tasklocks_limits WHERE {some}) AS l
