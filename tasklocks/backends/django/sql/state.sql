-- Let {capacity} count from now on. Answers with the capacity before, or null.
WITH was AS (SELECT capacity FROM tasklocks_limits WHERE name = {key}),
stated AS (
    INSERT INTO tasklocks_limits (name, full_name, capacity, token, used_at)
    SELECT {key}, {full}, {capacity}, 0, {now} WHERE NOT EXISTS (SELECT FROM was WHERE capacity = {capacity})
    ON CONFLICT (name) DO UPDATE SET capacity = excluded.capacity
)
SELECT json_build_array((SELECT capacity FROM was))::text
