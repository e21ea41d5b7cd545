"""The rivals, ours among them: one module each, all behind `benchmarks.peers.port.Peer`."""
