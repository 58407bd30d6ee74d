"""The program `argus`, with one module per command."""
