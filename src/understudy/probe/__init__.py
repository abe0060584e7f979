"""How does it look from outside, right now? A REST probe with a client that lives as long as an application's."""
