"""`zookeeper://host1,host2/chroot`: limits in an ensemble of ZooKeeper ≥ 3.6 (3.5 without the clean-up of idle limits).

Does not guarantee: leases whose end is judged by one clock. It is the leader's, which stamps every write; the next
leader has another one. So a lease that was stamped before a change of leader and is not renewed gets five seconds more,
and clocks of servers that are further apart than that can end it too early; its token is refused then, where tokens are
checked. A reader at a server that lags behind may be told of permits that have just come free a little late. A place in
line is that of the first asking, whatever `AcquireRequest.since` says: see below, nobody can get in front of a waiter.

How a limit is laid out (`nodes` reads and writes the names):

    /chroot/prefix/3f/name            the limit: capacity and usual hold; a container, gone a minute after its last use
    …/l-PERMITS-OWNER-00000007        a lease, taken by one who did not wait
    …/g-PERMITS-OWNER-00000009        a lease that was handed to a waiter
    …/k-PERMITS-OWNER-00000007        permits that stay taken for a while after their release
    …/q/w-PERMITS-OWNER-00000003      a listening waiter; ephemeral, so the server drops it with its session
    …/a/a-PERMITS-TICKET.UNTIL-…      one who is away and comes back by itself

Taking a free permit is one round trip: *create* and *list* are sent together, and ZooKeeper answers in order. Whoever
created a lease holds it if all that was there before leaves room; otherwise it takes the node back or stands in line.
So of two who ask at once the first one wins, and nobody has to try again.

The line needs no writes to move on. A waiter has its permits as soon as all in front of it, leases and waiters,
leave room; since nobody can get in front of it, what it has once seen in front can only become less. It watches the
waiter before it, and the head of the line watches the leases: one departure wakes one waiter. A waiter that is granted
turns its node into a lease; if it does not, whoever looks next marks it as granted, and it lapses soon after.

Leases are ordinary nodes and end by time (the server's stamp of the last renewal, and their ttl), not with a session:
that would bound all leases of a process by one timeout, forbid a ttl above the ensemble's maximum, and end leases that
another process goes on renewing. The session's timeout bounds how long a dead waiter keeps its place.

A token is the node's creation zxid, counted from the creation of the prefix and from the time of that in microseconds:
an ensemble that lost its data starts above what it had given out.
"""

from tasklocks.backends.zookeeper.backend import ZooKeeperBackend

__all__ = ["ZooKeeperBackend"]
