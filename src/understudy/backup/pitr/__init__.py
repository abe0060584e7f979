"""A stack kept in a repository such that any second of its past can be restored."""
