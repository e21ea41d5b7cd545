"""The delivery protocol as step functions over two ports, a store and a broker. No clock, no process, no I/O of its own.

`relay` publishes what is due, `reconcile` repairs what was lost, `finish` commits what effects gave. The processes in
`workers/` are loops around these. The protocol itself: docs/protocol.md.
"""
