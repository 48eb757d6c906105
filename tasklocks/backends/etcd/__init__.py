"""`etcd://`: limits that the processes of several hosts share through etcd 3.4 or later.

Does not guarantee: how long the lease of another process lasts is known to etcd only, so `Holder.expires_in` and
`Busy.retry_after` say the most that it can be. Who comes back by itself (`Place.address` is None) is counted by the
wall clocks of workers, and so is `Holder.since`. A place in line is that of the first asking, whatever
`AcquireRequest.since` says: to put somebody in front of others would break what follows here. When etcd elects another
leader, leases last for their full time from then on, so a dead holder's permits come back later. An etcd leader that
stood still can end leases that are kept alive (etcd issue 15247, closed in 3.4.31 and 3.5.13). A lock protects nothing
outside etcd by itself; the fencing token does.

**The line is the state.** Each holder and each listening waiter is one key; the order is that in which keys were
created. Who holds permits is not written anywhere: an entry holds as soon as it and all in front of it fit into the
capacity (`line.py`). So a release is the deletion of one key, whoever does it and why, and in the same step the next
in line holds. Nobody is overtaken, also not those who need many permits. A waiter enters with a plain write that
cannot fail, so fifty processes that want one limit never have to try again because of each other. Only a caller that
does not wait makes its entry on condition that nobody entered since it looked (all keys of the line have a smaller
revision), and what it saw last is usually still true: one round trip.

**Time is etcd's.** Keys end with etcd leases, one for each ttl in a process, kept alive by one thread and by renewals
(`sessions.py`). When a process is killed or frozen, etcd deletes what it had. When one entry of a live process is
over, because its owner stopped renewing it, that process deletes it, for only it keeps the lease alive (`mine.py`). A
waiter's place ends with a lease of two seconds, so a dead waiter at the head keeps nobody waiting for longer than a
grant that is not claimed.

**News.** Each process with waiters watches one key of its own. A release writes there who is served, in the same
transaction if it knew them before, in a second one otherwise (`ears.py`), and what it knows of the line behind them
(`news.py`), so that they know whom to tell in their turn. So a release costs as much for a long line
as for a short one, and each process hears of its own waiters only. What an etcd lease ends, nobody announces: the
first in line looks when that can be.

**Tokens.** A token is the revision at which the entry was made, plus a number that is shared by all and only grows
(`Base` in `store.py`). Every process that starts or lost its connection raises it to the time in microseconds; an
entry is made on condition that the number is still the one it was made with. So tokens grow also when etcd lost its
data, or an old snapshot was restored.

**Nothing is left.** Capacities and hold times end with an etcd lease an hour or more after their last use, so limits
that were used once need no sweep. Of an answer that never came, the process finds out what became of it
(`Table.doubt`).

**Transports.** `etcd://` speaks to etcd's JSON gateway over a small HTTP client of its own; `etcd+grpc://` uses
python-etcd3. gRPC must not be used across a fork, so a forked process refuses it.
"""

from tasklocks.backends.etcd.backend import EtcdBackend

__all__ = ["EtcdBackend"]
