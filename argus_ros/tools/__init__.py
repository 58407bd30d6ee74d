"""One program, `argus`, with a command each."""
