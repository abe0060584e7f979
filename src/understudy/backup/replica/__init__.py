"""Copies of primaries that follow them as replicas do, and the cut that is made through them."""
