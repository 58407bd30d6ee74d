"""The ROS side, on rclpy: the lifecycle node, parameters, conversions, diagnostics. No torch."""
