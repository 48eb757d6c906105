-- What follows can be undone.
SAVEPOINT tasklocks
