"""What the benchmarks share: timing, memory, checks, the peer, and reports."""
