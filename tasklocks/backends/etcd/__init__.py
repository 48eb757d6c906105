"""`etcd://`: limits that the processes of several hosts share through etcd 3.4 or later.

Does not guarantee: how long the lease of another process lasts is known to etcd only, so `Holder.expires_in` and
`Busy.retry_after` say the most that it can be. Who comes back by itself (`Place.address` is None) is counted by the
wall clocks of workers. When etcd elects another leader, leases last for their full time from then on, so a dead
holder's permits come back later. A lock protects nothing outside etcd by itself; the fencing token does.
"""

from tasklocks.backends.etcd.backend import EtcdBackend

__all__ = ["EtcdBackend"]
