"""Does the stack survive, and at what cost? A workload, a fault, and a verdict from the history of both."""
