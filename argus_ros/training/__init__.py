"""Synthetic scenes, COCO data, losses and the training loop that makes the shipped checkpoints."""
