-- Keep {text} for {keep} seconds.
INSERT INTO tasklocks_texts (name, full_name, text, until) VALUES ({key}, {full}, {text}, {now} + {keep})
ON CONFLICT (name) DO UPDATE SET text = excluded.text, until = excluded.until
