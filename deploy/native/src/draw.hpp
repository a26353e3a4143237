// Drawing on images, for a person to look at: `slipway_runtime.draw` on OpenCV's own drawing functions.
#pragma once

#include <opencv2/core.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "image.hpp"

namespace slipway::draw {

// A copy of the image with white text on black in its upper left corner.
cv::Mat label(const cv::Mat& image, const std::string& text);
// The image mixed with the colours of its label map, CV_8UC1; `opacity` is the colours' share.
cv::Mat overlay(const cv::Mat& image, const cv::Mat& label_map, std::span<const Colour> palette, double opacity);
// A copy of the image with a list of names, each after its colour, white on black in the upper left corner.
cv::Mat legend(const cv::Mat& image, std::vector<std::pair<std::string, Colour>> entries);
// Mix a colour into the pixels of a mask, CV_8UC1 of 0 and 1, on the canvas itself.
void tint(cv::Mat& canvas, const cv::Mat& mask, Colour colour, double opacity);
// Draw a box, x1, y1, x2, y2 in pixels, and its text on the canvas itself.
void box(cv::Mat& canvas, std::span<const float, 4> corners, const std::string& text, Colour colour);

}  // namespace slipway::draw
