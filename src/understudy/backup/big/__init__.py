"""Where are the keys that are too big for one DUMP, and how are they read, kept, written and compared?

A big key is a file of commands in the set (`format.py`). `take.py` writes such files, for `tasks/read_keys.py`;
`whole.py` does what is done with all of a set's big keys, with workers of `tasks/write_big.py` and `compare_big.py`.
"""
