"""Plain Python, numpy and OpenCV: scheduling, image preparation, the engine's client. No torch, no rclpy."""
