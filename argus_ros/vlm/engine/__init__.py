"""The engines that the worker process runs: native, transformers, and a server's client."""
