-- Forget texts whose time is over. One that is being written again is seen as it is then.
DELETE FROM tasklocks_texts WHERE until <= {now}
