"""COCO data, losses and the training loop of the shipped checkpoints; ``scenes`` draws synthetic pictures."""
