"""Show me."""
