"""How do I run the real thing here?"""
