-- End the owner's lease, or let its permits stay taken for {keep} seconds, and give up its place as a listener.
-- Answers with how many leases were ended.
WITH mine AS (
    SELECT id, token, {now} - granted AS hold FROM tasklocks_leases
    WHERE name = {key} AND owner = {owner} AND closed = 0 AND expires > {now}
), gone AS (
    DELETE FROM tasklocks_leases h USING mine WHERE h.id = mine.id AND {keep} <= 0
), kept AS (
    UPDATE tasklocks_leases h SET closed = 1, expires = {now} + {keep} FROM mine WHERE h.id = mine.id AND {keep} > 0
), left_line AS (
    DELETE FROM tasklocks_waiters WHERE name = {key} AND ticket = {owner} AND away = 0
), noted AS (
    UPDATE tasklocks_limits l
    SET token = greatest(l.token, mine.token), used_at = {now}, usual_hold = CASE
        WHEN usual_hold IS NULL THEN hold
        WHEN hold > usual_hold THEN usual_hold + {weight} * (hold - usual_hold)
        ELSE usual_hold + {shorter_weight} * (hold - usual_hold) END
    FROM mine WHERE l.name = {key}
)
SELECT count(*)::text FROM mine
