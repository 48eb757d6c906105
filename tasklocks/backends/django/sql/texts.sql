-- Answers with the last id, how many were looked at, and those of the prefix that are still kept: [name, text].
SELECT json_build_array(max(id), count(*), json_agg(json_build_array(coalesce(full_name, name), text))
    FILTER (WHERE starts_with(name, {prefix}) AND until > {now}))::text
FROM (SELECT * FROM tasklocks_texts WHERE {some}) AS t
