"""What can I type? One file a command, no logic."""
