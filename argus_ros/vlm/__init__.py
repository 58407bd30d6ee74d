"""The model side, on torch: checkpoints, prompts, grammar, the engine and its worker process. No rclpy."""
