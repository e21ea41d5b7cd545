"""The asynchronous store, floor by floor the twin of `sync`: only the doing differs, the flows are the same."""
