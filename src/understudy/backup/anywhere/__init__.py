"""How does a key get to a server that does not read its payload, and what of it stays behind?

A server reads the payloads (`DUMP`) of its own and of older versions. For any other, each payload is restored into a
scratch server that reads it (`values.py`), and the key is built anew on the target with commands (`commands.py`,
`rebuild.py`). What the target has no place for is told before anything is written (`losses.py`, `foresee.py`).
"""
