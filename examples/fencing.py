"""A fencing token guards a write against a holder that was frozen and does not know that its lease is gone.

No lock can stop a process that sleeps through its lease and then goes on. The store can: it keeps the largest token
that it has seen and refuses a write with a smaller one.
"""

import sqlite3

from tasklocks import Lock, connect

WRITE = "UPDATE report SET body = :body, token = :token WHERE id = 1 AND token <= :token"


def write(database, body, token):
    """Write in one step, unless somebody with a larger token has written; return whether it was written."""
    with database:
        return database.execute(WRITE, {"body": body, "token": token}).rowcount == 1


database = sqlite3.connect(":memory:")
database.execute("CREATE TABLE report (id INTEGER PRIMARY KEY, body TEXT, token INTEGER)")
database.execute("INSERT INTO report VALUES (1, 'empty', 0)")

backend = connect("memory://")
lock = Lock("report", backend=backend)

frozen = lock.acquire()
print(f"the first holder has token {frozen.fencing_token}, and freezes")

# What happens to the lease of a frozen process: its time runs out. Here it is taken away, which is quicker.
backend.force_release("report")

with lock as successor:
    print(f"the second holder has token {successor.fencing_token}, which is larger")
    print("  its write is accepted:", write(database, "by the second", successor.fencing_token))

print("the first holder wakes up and writes what it had in mind")
print("  its write is accepted:", write(database, "by the first", frozen.fencing_token))
print("the report says:", *database.execute("SELECT body FROM report").fetchone())

assert database.execute("SELECT body FROM report").fetchone() == ("by the second",)
frozen.release()
database.close()
