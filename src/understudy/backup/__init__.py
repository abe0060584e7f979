"""Is the data safe, and can I get it back?"""
