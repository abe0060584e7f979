"""What a worker process runs: one module a task, plain data in, plain data out."""
