-- The process could be stopped before it ends the transaction.
SET LOCAL idle_in_transaction_session_timeout = '3s'
