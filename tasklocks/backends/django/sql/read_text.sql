-- Answers with [now, text or null].
SELECT json_build_array(now, (SELECT text FROM tasklocks_texts WHERE name = {key} AND until > now))::text
FROM (SELECT {now} AS now OFFSET 0) AS clock
