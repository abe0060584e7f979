"""The parts of a rehearsal: a user's questions, what was found, and how it is told and kept."""
