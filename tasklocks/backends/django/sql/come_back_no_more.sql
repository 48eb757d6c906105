-- Give up the place of one who comes back by itself.
DELETE FROM tasklocks_waiters WHERE name = {key} AND ticket = {ticket} AND away = 1
