-- Answers with [now, texts by their names or null].
SELECT json_build_array(
    now, (SELECT json_object_agg(name, text) FROM tasklocks_texts WHERE name = ANY ({keys}) AND until > now)
)::text
FROM (SELECT {now} AS now OFFSET 0) AS clock
