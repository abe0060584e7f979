"""A shop that keeps its orders in a Valkey cluster."""
