"""What is in a set? Counts by type, prefix, size and expiry; lists of keys; their values in readable form."""
