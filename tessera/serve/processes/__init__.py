"""A server of several processes: fronts that speak HTTP, owners that run the model, and who watches them.

```
clients ── front ─┐  sockets carry 24 bytes a request,   ┌─ owner (cuda:0)
clients ── front ─┼─ shared memory carries the tensors ──┤
clients ── front ─┘                                      └─ owner (cuda:1)
                      supervisor: starts, watches, restarts, stops them all
```
"""
