"""Qdrant over its REST API: the client, snapshots in both directions, and what a set says about them."""
