"""Layer 0: data structures, the messages of misuse, and status codes."""
