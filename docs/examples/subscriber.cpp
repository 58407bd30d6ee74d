// What the cameras see, line by line. In CMakeLists.txt:
//   find_package(rclcpp REQUIRED)
//   find_package(argus_ros REQUIRED)
//   add_executable(subscriber subscriber.cpp)
//   ament_target_dependencies(subscriber rclcpp argus_ros)
#include <cstdio>
#include <memory>

#include "argus_ros/msg/detection_array.hpp"
#include "rclcpp/rclcpp.hpp"

class Planner : public rclcpp::Node
{
public:
  Planner() : Node("planner")
  {
    // Only the newest counts: depth 1. Reliable, as the node publishes.
    subscription_ = create_subscription<argus_ros::msg::DetectionArray>(
      "/argus/detections", rclcpp::QoS(1),
      [](argus_ros::msg::DetectionArray::ConstSharedPtr seen) {take(*seen);});
  }

private:
  // An empty array says that nothing was seen; no array at all that something is wrong.
  static void take(const argus_ros::msg::DetectionArray & seen)
  {
    std::printf(
      "%d.%09u %s: %zu objects, %.3f s old\n", seen.header.stamp.sec, seen.header.stamp.nanosec,
      seen.camera.c_str(), seen.detections.size(), seen.age);
    for (const auto & one : seen.detections) {
      std::printf(
        "  %s %.2f at (%.0f, %.0f) to (%.0f, %.0f)\n", one.label.c_str(), one.score, one.x_min, one.y_min,
        one.x_max, one.y_max);
    }
  }

  rclcpp::Subscription<argus_ros::msg::DetectionArray>::SharedPtr subscription_;
};

int main(int argc, char ** argv)
{
  rclcpp::init(argc, argv);
  rclcpp::spin(std::make_shared<Planner>());
  rclcpp::shutdown();
  return 0;
}
