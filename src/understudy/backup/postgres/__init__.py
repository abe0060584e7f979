"""What the postgres component is made of: how a database is read into a dump, and a dump into a database."""
