"""Plain Python, numpy and OpenCV: frames, scheduling, image preparation, the engine's client. No torch, no rclpy."""
