"""How do we answer over HTTP? Who may ask, how much at once, errors as problem+json, metrics, starting a server."""
