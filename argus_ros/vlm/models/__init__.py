"""The modules of a model, and what runs them: torch, numpy, CUDA graphs, Triton kernels."""
