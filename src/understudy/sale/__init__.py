"""Does a sale survive? Buyers at real gateways on a real stack, while its primaries are killed, paused and cut off."""
