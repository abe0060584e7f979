"""Who looks after it, night after night: schedule, retention, health, notification, audit, rehearsal."""
