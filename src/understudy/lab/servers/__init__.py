"""The kinds of server, one file each."""
