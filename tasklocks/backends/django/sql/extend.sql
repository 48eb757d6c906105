-- Extend leases. Answers with the number and the lease of those that are there.
WITH extended AS (
    UPDATE tasklocks_leases AS h SET expires = {now} + wanted.ttl
    FROM unnest({numbers}, {names}, {owners}, {ttls}) AS wanted (number, name, owner, ttl)
    WHERE h.name = wanted.name AND h.owner = wanted.owner AND h.closed = 0
    RETURNING wanted.number, h.permits, h.token
)
SELECT json_agg(json_build_array(number, permits, token))::text FROM extended
