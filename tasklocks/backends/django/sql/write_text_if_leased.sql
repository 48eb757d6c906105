-- Keep {text} for {keep} seconds, if {owner} has a lease of the limit {lock}.
INSERT INTO tasklocks_texts (name, full_name, text, until)
SELECT {key}, {full}, {text}, {now} + {keep}
WHERE EXISTS (SELECT FROM tasklocks_leases WHERE name = {lock} AND owner = {owner} AND closed = 0)
ON CONFLICT (name) DO UPDATE SET text = excluded.text, until = excluded.until
