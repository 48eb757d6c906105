-- Keep {text} for {keep} seconds.
INSERT INTO tasklocks_texts (name, text, until) VALUES ({key}, {text}, {now} + {keep})
ON CONFLICT (name) DO UPDATE SET text = excluded.text, until = excluded.until
