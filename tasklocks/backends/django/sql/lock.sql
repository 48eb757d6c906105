-- Wait for everybody else's steps on these names to end, and keep out others until this transaction ends.
SELECT pg_advisory_xact_lock(hashtextextended(name, 0)) FROM unnest({keys}) AS name
