-- Undo all since the savepoint.
ROLLBACK TO SAVEPOINT tasklocks
