"""How do I reach it, how is it arranged, and how do I move many commands fast?"""
